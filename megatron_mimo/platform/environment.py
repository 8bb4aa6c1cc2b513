"""What a run stands on: library versions, devices, communication, and which layer backends were chosen and why.

Imports no megatron-core: versions are read from package metadata, so the report is there even where an import fails.
"""

import importlib.metadata
import importlib.util
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

import torch
import torch.cuda.nccl
import torch.distributed

import megatron_mimo
from megatron_mimo.platform.number_format import CPUINFO, best_format, cpu_bf16, cpu_model_and_flags

NOT_INSTALLED = "not installed"


def environment_report(chosen: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Sections of plain values, ready for JSON. `chosen` names each decision and its reason, as the model builder
    took it, for example {"attention": "torch SDPA: Transformer Engine is not installed"}."""
    return {
        "software": _software(),
        "device": _gpus() if torch.cuda.is_available() else _cpu(),
        "communication": _communication(),
        "chosen": dict(chosen or {}),
        "source": _source(),
    }


def environment_text(report: dict[str, dict[str, Any]]) -> str:
    """The report as one screen of aligned lines."""
    lines = []
    width = max(len(key) for values in report.values() for key in values)
    for section, values in report.items():
        for index, (key, value) in enumerate(values.items()):
            lines.append(f"{section if index == 0 else '':<13} {key:<{width}}  {value}")
    return "\n".join(lines)


def _software() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "megatron-mimo": megatron_mimo.__version__,
        "torch": torch.__version__,
        "megatron-core": package_version("megatron-core"),
        "transformer-engine": package_version(
            "transformer-engine", "transformer_engine", "transformer_engine_torch", "transformer_engine_cu13"
        ),
        "apex": apex_version(),
        "DALI": package_version("nvidia-dali-cuda130", "nvidia-dali-cuda120", "nvidia-dali"),
        "CUDA": torch.version.cuda or "none (CPU build of torch)",
    }


def package_version(*names: str) -> str:
    """Version of the first installed distribution among `names`, or "not installed"."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return NOT_INSTALLED


def package_versions() -> dict[str, str]:
    """Of what decides the numbers of a run."""
    packages = ("megatron-mimo", "torch", "megatron-core", "transformer-engine", "numpy")
    return {name: package_version(name) for name in packages}


def apex_version() -> str:
    """NVIDIA's apex carries the extension `amp_C`; the package called apex on PyPI is another project."""
    version = package_version("apex")
    if importlib.util.find_spec("amp_C") is not None:
        return f"{version} (NVIDIA)" if version != NOT_INSTALLED else "NVIDIA, version unknown"
    if version == NOT_INSTALLED:
        return NOT_INSTALLED
    return f"{version}: not NVIDIA's apex (amp_C is missing), ignored; remove it with: pip uninstall apex"


def _gpus() -> dict[str, Any]:
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    capability = f"{properties[0].major}.{properties[0].minor}"
    return {
        "GPUs": ", ".join(f"{each.name} ({each.total_memory / 2**30:.0f} GiB)" for each in properties),
        "compute capability": capability,
        "bf16": best_format().reason,
        "host": socket.gethostname(),
    }


def _cpu() -> dict[str, Any]:
    has_bf16, reason = cpu_bf16()
    return {
        "CPU": cpu_model_and_flags(CPUINFO)[0],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads per rank": torch.get_num_threads(),
        "bf16": f"{'in hardware' if has_bf16 else 'emulated, slower than fp32'}: {reason}",
        "host": socket.gethostname(),
    }


def _communication() -> dict[str, Any]:
    started = torch.distributed.is_available() and torch.distributed.is_initialized()
    expected = "nccl" if torch.cuda.is_available() and torch.distributed.is_nccl_available() else "gloo"
    return {
        "backend": torch.distributed.get_backend() if started else f"{expected} (not started yet)",
        "ranks": torch.distributed.get_world_size() if started else int(os.environ.get("WORLD_SIZE", "1")),
        "NCCL": _nccl_version(),
    }


def _nccl_version() -> str:
    if not (torch.cuda.is_available() and torch.distributed.is_nccl_available()):
        return "not used (no CUDA device)"
    return ".".join(str(part) for part in torch.cuda.nccl.version())


def _source() -> dict[str, str]:
    job = os.environ.get("SLURM_JOB_ID")
    return {"git revision": git_revision(Path(__file__).parents[2])} | ({"slurm job": job} if job else {})


def git_revision(root: Path) -> str:
    """Commit of the checkout at `root` (with -dirty where files differ from it), or "not a git checkout"."""
    # Only a repository that starts at `root` counts: an installed package may lie inside somebody else's.
    if not (root / ".git").exists():
        return "not a git checkout"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown (git did not answer)"
    return answer.stdout.strip()
