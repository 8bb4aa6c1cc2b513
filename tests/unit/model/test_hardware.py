"""GPUs by name and in one's own figures."""

from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.plan.hardware import GIB, GPUS, find_gpu

FIGURES = "memory_gib=40,bf16_tflops=100,link_gb_per_second=30,network_gb_per_second=10"


@pytest.mark.parametrize("name", ["h20", "A800", "l40s", "rtx4090", "4090", "gb200", "b300"])
def test_known_by_name(name: str) -> None:
    gpu = find_gpu(name)
    assert gpu.memory_bytes > gpu.usable_memory_bytes > 20 * GIB


def test_figures_of_ones_own(tmp_path: Path) -> None:
    gpu = find_gpu(FIGURES + ",fp8_tflops=200,gpus_per_node=4,name=Some card")
    assert (gpu.name, gpu.memory_bytes, gpu.fp8_tflops, gpu.nvlink_gpus) == ("Some card", 40 * GIB, 200, 4)
    (tmp_path / "card.yaml").write_text(FIGURES.replace("=", ": ").replace(",", "\n"))
    read = find_gpu(str(tmp_path / "card.yaml"))
    assert (read.bf16_tflops, read.nvlink_bytes_per_second, read.fp8_tflops) == (100, 30e9, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v100", "choose one of h100, .* or give its figures as key=value.*memory_gib"),
        ("memory_gib=40", "bf16_tflops"),
        (FIGURES + ",tflops=3", "tflops"),
        (FIGURES.replace("100", "-1"), "must be above 0"),
        (FIGURES.replace("100", "fast"), "bf16_tflops"),
        ("nowhere.yaml", "cannot read"),
    ],
)
def test_bad_figures_are_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_gpu(name)


def test_rings_stay_on_nvlink_as_far_as_it_reaches() -> None:
    """64 GPUs of a GB200 rack are on NVLink; eight H100 nodes are joined by their ports."""
    gb200, h100 = GPUS["gb200"], GPUS["h100"]
    assert gb200.group_bytes_per_second(64, stride=1) == pytest.approx(0.8 * 900e9)
    assert h100.group_bytes_per_second(64, stride=1) == pytest.approx(0.8 * 8 * 50e9)
    assert h100.group_bytes_per_second(8, stride=8) == pytest.approx(0.8 * 50e9)
