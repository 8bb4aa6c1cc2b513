"""The choice of a number format on machines of every kind, and what a slow choice is said to cost."""

import time

import pytest
import torch

from megatron_mimo.config import UserError
from megatron_mimo.platform import number_format
from megatron_mimo.platform.number_format import (
    best_format,
    cpu_bf16,
    cpu_model_and_flags,
    inference_dtype,
    product_gflops,
    slow_bf16_warning,
)

MACHINES = {
    "Xeon with AMX": ("model name\t: Xeon 6\nflags\t\t: fpu avx2 amx_bf16 avx512_bf16\n", True),
    "Zen 4": ("model name\t: EPYC 9654\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", True),
    "Zen 3": ("model name\t: EPYC 7763\nflags\t\t: fpu avx2 fma\n", False),
    "Skylake": ("model name\t: Xeon 8175\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
    "Graviton 3": ("processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\n", True),
    "Graviton 2": ("processor\t: 0\nFeatures\t: fp asimd\n", False),
    "no flags": ("processor\t: 0\n", False),
}


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv("MEGATRON_MIMO_CPU_BF16", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("machine", MACHINES)
def test_flags_decide_on_linux(machine, tmp_path):
    text, expected = MACHINES[machine]
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\n" + text)
    assert cpu_bf16(cpuinfo)[0] is expected


def test_a_machine_without_cpuinfo_computes_in_fp32_and_names_the_switch(tmp_path):
    has_bf16, reason = cpu_bf16(tmp_path / "absent")
    assert not has_bf16
    assert "MEGATRON_MIMO_CPU_BF16=1" in reason
    assert cpu_model_and_flags(tmp_path / "absent")[1] == set()


@pytest.mark.parametrize(("switch", "dtype"), [("0", "fp32"), ("1", "bf16")])
def test_the_switch_overrides_the_flags(switch, dtype, monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", switch)
    assert best_format().dtype == dtype
    assert best_format().reason == f"MEGATRON_MIMO_CPU_BF16={switch}"


def test_an_unknown_switch_is_refused(monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "no")
    with pytest.raises(UserError, match="set it to 1 .* or 0"):
        best_format()


@pytest.mark.parametrize(("supported", "dtype"), [(True, "bf16"), (False, "fp32")])
def test_the_gpu_decides_where_there_is_one(supported, dtype, monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "0" if supported else "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    # torch answers True for cards that emulate bf16, unless it is asked not to.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or supported
    )
    assert best_format().dtype == dtype
    assert slow_bf16_warning() is None


def test_exported_weights_are_run_in_their_own_format_unless_it_is_emulated(monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "1")
    assert [inference_dtype(stored) for stored in ("bfloat16", "torch.float32", None)] == [
        "bfloat16",
        "float32",
        "auto",
    ]
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "0")
    assert [inference_dtype(stored) for stored in ("bfloat16", "float32", None)] == ["float32"] * 3


@pytest.mark.parametrize(
    ("bf16", "expected"), [(2.0, "40 times as fast; set precision.dtype=fp32"), (90.0, "costs nothing")]
)
def test_the_warning_follows_the_measurement(bf16, expected, monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "0")
    rates = {torch.bfloat16: bf16, torch.float32: 80.0}
    monkeypatch.setattr(number_format, "product_gflops", rates.__getitem__)
    warning = slow_bf16_warning()
    assert warning is not None
    assert f"{bf16:.3g} GFLOP/s in bf16 and at 80 in fp32" in warning
    assert expected in warning
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", "1")
    assert slow_bf16_warning() is None


def test_products_are_measured_for_real():
    """Against products timed here: the same machine, so within a wide factor, and the rate of no other size."""
    a = torch.ones(256, 256)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - start)
    assert product_gflops(torch.float32) == pytest.approx(2 * 256**3 / min(seconds) / 1e9, rel=0.9)
