"""Which number format this machine should compute in: bf16 where it multiplies bf16 in hardware, fp32 elsewhere.

Every decision of this kind is taken here. On CPUs without such instructions bf16 is emulated, 10 to 60 times slower
than fp32; `MEGATRON_MIMO_CPU_BF16=0` (or 1) says that this machine's CPU does not (or does) have them.
"""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from megatron_mimo.config import UserError

Dtype = Literal["bf16", "fp32"]
BF16_CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""Instruction sets that multiply bf16 directly; the last is Arm's name."""
CPU_BF16_VARIABLE = "MEGATRON_MIMO_CPU_BF16"
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class NumberFormat:
    """A format and why it was chosen."""

    dtype: Dtype
    reason: str


def best_format() -> NumberFormat:
    """The format of this machine's device. Raises UserError for a MEGATRON_MIMO_CPU_BF16 that is not 0 or 1."""
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return NumberFormat("bf16", "the GPU multiplies bf16")
        return NumberFormat("fp32", f"{torch.cuda.get_device_name()} has no bf16")
    has_bf16, reason = cpu_bf16()
    return NumberFormat("bf16" if has_bf16 else "fp32", reason)


def cpu_bf16(cpuinfo: Path = CPUINFO) -> tuple[bool, str]:
    """Whether the CPU multiplies bf16 in hardware, and how that is known. Where no flags are listed: not."""
    switch = os.environ.get(CPU_BF16_VARIABLE, "")
    if switch not in ("", "0", "1"):
        raise UserError(f"{CPU_BF16_VARIABLE}={switch}: set it to 1 (the CPU multiplies bf16) or 0 (it does not)")
    if switch:
        return switch == "1", f"{CPU_BF16_VARIABLE}={switch}"
    _, flags = cpu_model_and_flags(cpuinfo)
    found = [flag for flag in BF16_CPU_FLAGS if flag in flags]
    if found:
        return True, f"the CPU multiplies bf16 ({', '.join(found)})"
    if flags:
        return False, "the CPU has no bf16 instructions"
    return False, f"the CPU's instructions are not listed here; set {CPU_BF16_VARIABLE}=1 if it multiplies bf16"


def cpu_model_and_flags(cpuinfo: Path) -> tuple[str, set[str]]:
    """Model name and feature flags from a Linux cpuinfo file; falls back on Python's own answer elsewhere."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        text = ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    model = fields.get("model name") or platform.processor() or platform.machine()
    return model, set((fields.get("flags") or fields.get("Features") or "").split())


def inference_dtype(stored: str | None) -> str:
    """The dtype to run exported weights in: as `stored`, "auto" where unknown, float32 on CPUs without bf16.

    Names are torch's, which vLLM and Transformers take. Left to itself vLLM computes fp32 weights in bf16, everywhere.
    """
    if best_format().dtype == "fp32" and not torch.cuda.is_available():
        return "float32"
    return (stored or "auto").removeprefix("torch.")


def product_gflops(dtype: torch.dtype, seconds: float = 0.025, size: int = 256) -> float:
    """GFLOP/s of square matrix products on the CPU with this process's threads: the best of about `seconds`."""
    a, b = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    torch.mm(a, b)
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def slow_bf16_warning() -> str | None:
    """What bf16 costs on a CPU without bf16 instructions, measured now; None where the device has bf16."""
    if torch.cuda.is_available():
        return None
    has_bf16, reason = cpu_bf16()
    if has_bf16:
        return None
    bf16, fp32 = product_gflops(torch.bfloat16), product_gflops(torch.float32)
    measured = f"a matrix product runs at {bf16:.3g} GFLOP/s in bf16 and at {fp32:.3g} in fp32"
    if bf16 >= fp32:
        return f"{reason}, but {measured} here: bf16 costs nothing"
    return f"{reason}: {measured} here, {fp32 / bf16:.0f} times as fast; set precision.dtype=fp32 (or auto)"
