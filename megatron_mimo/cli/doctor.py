"""What this machine has of what the commands need, and what to do about the rest.

    megatron-mimo doctor [--json]

Nothing is installed or changed. Exit code 1 where something is missing without which nothing trains.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.config import UserError
from megatron_mimo.missing import is_installed, way_out

State = Literal["ok", "missing", "note"]
TRAINING = {"torch": "torch", "megatron-core": "megatron", "psutil": "psutil", "safetensors": "safetensors"}
"""Distribution -> module that it brings; without these nothing trains."""
PARTS = {
    "transformers": ("transformers", "evaluate-pretraining, the base recipes of the tagger"),
    "vllm": ("vllm", "serve, chat, rl, evaluate without a server"),
    "ray": ("ray", "rl, data on a Ray cluster"),
    "peft": ("peft", "reading exported adapters"),
    "math-verify": ("math_verify", "rl and evaluate: grading of mathematics"),
    "aiohttp": ("aiohttp", "judge, annotate, synthesize, evaluate through an endpoint"),
    "lxml": ("lxml", "data, extract"),
    "scipy": ("scipy", "mixture solve"),
}
"""Distribution -> (module, commands that need it)."""
NEEDED_DISK_BYTES = 3 << 30


@dataclass(frozen=True)
class Examined:
    """One finding."""

    part: str
    state: State
    found: str
    way_out: str = ""
    is_required: bool = False


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = parser_of(__doc__)
    found.add_argument("--json", action="store_true", help="print JSON instead of text")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Examine and print; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """1 where something that everything needs is missing."""
    rows = [row for look in LOOKS for row in look()]
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else text(rows))
    return int(any(row.is_required and row.state == "missing" for row in rows))


def text(rows: list[Examined]) -> str:
    """A line for each finding, with the way out below what is missing."""
    width = max(len(row.part) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.state:<8}{row.part:<{width}}  {row.found}")
        lines += [f"{'':<{width + 10}}{row.way_out}"] * bool(row.way_out)
    missing = [row.part for row in rows if row.state == "missing"]
    end = f"missing: {', '.join(missing)}" if missing else "nothing is missing"
    return "\n".join([*lines, "", end])


def python() -> list[Examined]:
    """The interpreter; megatron_mimo/__init__.py refuses one that is too old before this is read."""
    return [Examined("Python", "ok", f"{platform.python_version()} at {sys.executable}", is_required=True)]


def packages() -> list[Examined]:
    """Packages that training needs, and those of single commands."""
    rows = [_package(name, module, "everything", is_required=True) for name, module in TRAINING.items()]
    return rows + [_package(name, module, users, is_required=False) for name, (module, users) in PARTS.items()]


def _package(name: str, module: str, users: str, is_required: bool) -> Examined:
    from importlib.metadata import PackageNotFoundError, version

    if not is_installed(module):
        return Examined(name, "missing", f"not installed; needed by: {users}", way_out(module), is_required)
    for distribution in (name, f"{name}-cpu"):
        with suppress(PackageNotFoundError):
            return Examined(name, "ok", version(distribution), is_required=is_required)
    return Examined(name, "ok", "version unknown (built into this environment)", is_required=is_required)


def drafting() -> list[Examined]:
    """Whether vLLM finds the plugin that several MTP layers need."""
    if not is_installed("vllm"):
        return []
    from megatron_mimo.serve.speculative import check_plugin_is_installed

    try:
        check_plugin_is_installed()
    except UserError as error:
        return [Examined("vLLM plugin", "missing", "not registered", str(error))]
    return [Examined("vLLM plugin", "ok", "registered")]


def device() -> list[Examined]:
    """GPUs, or the CPU and its bf16."""
    if not is_installed("torch"):
        return []
    import torch

    from megatron_mimo.platform.number_format import CPUINFO, cpu_bf16, cpu_model_and_flags

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return [
            Examined(
                "GPUs", "ok", f"{count} x {torch.cuda.get_device_name(0)}", "examine them: megatron-mimo gpu-check"
            )
        ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    has_bf16, reason = cpu_bf16()
    format_name = "bf16 in hardware" if has_bf16 else f"no bf16 in hardware, so training uses fp32 ({reason})"
    return [
        Examined("GPUs", "note", "none: CPU training, which suits the nano size"),
        Examined("CPU", "ok", f"{cores} cores, {cpu_model_and_flags(CPUINFO)[0]}; {format_name}"),
    ]


def judge() -> list[Examined]:
    """Whether a sandbox can be opened, by opening one."""
    from megatron_mimo.judge import JudgePool

    try:
        with JudgePool():
            row = Examined("sandbox", "ok", "bubblewrap opens one: rl on code, evaluate on code, judge")
    except UserError as error:
        row = Examined("sandbox", "missing", "needed by: judge, rl and evaluate on code", str(error))
    compiler = shutil.which("g++")
    missing = Examined("g++", "missing", "needed by: judge on C++ solutions", "Debian, Ubuntu: apt-get install g++")
    return [row, Examined("g++", "ok", compiler) if compiler else missing]


def space() -> list[Examined]:
    """Memory and disk."""
    free = shutil.disk_usage(Path.cwd()).free
    disk: State = "ok" if free >= NEEDED_DISK_BYTES else "note"
    advice = "" if disk == "ok" else "the quick start needs about 3 GB: work in another folder"
    rows = [Examined("disk", disk, f"{free / 2**30:.0f} GiB free in {Path.cwd()}", advice)]
    if is_installed("psutil"):
        import psutil

        memory = psutil.virtual_memory()
        rows.append(
            Examined("memory", "ok", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB available")
        )
    return rows


LOOKS: tuple[Callable[[], list[Examined]], ...] = (python, packages, drafting, device, judge, space)
