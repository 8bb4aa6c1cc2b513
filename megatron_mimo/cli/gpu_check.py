"""What works on this machine's GPU, in under eight minutes and without a network: `make gpu-check`.

    megatron-mimo gpu-check [--json gpu_check.json] [--only heads,emulation]
    megatron-mimo gpu-check --dry-run        # without a GPU: list the checks, run what of them a CPU can

Each check runs in a separate process with a time limit, so that one that fails, hangs or loses the device is a row of
the table and no more. Exit code 0: every check passed; 1: some did not; 2: no GPU, or a wrong argument.
"""

import argparse
import json
import os
import subprocess
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import megatron_mimo
from megatron_mimo.cli.command import exit_code, own_program, parser_of
from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.platform.files import write_json

GPU_SECONDS, DRY_RUN_SECONDS = 480, 3600
"""For all checks together."""


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.run:
        print(json.dumps(asdict(run_here(options.run, not options.dry_run)), default=str))
        return 0
    return exit_code(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Run the checks, print the table and write the details; 1 where a check failed. Raises UserError."""
    require_gpu(options.dry_run)
    warnings.simplefilter("ignore")
    names = choose(options.only)
    start = time.perf_counter()
    end = start + (DRY_RUN_SECONDS if options.dry_run else GPU_SECONDS)
    rows = [run_apart(name, options.dry_run, end) for name in names]
    seconds = time.perf_counter() - start
    failed = [row["check"] for row in rows if row["passed"] is False]
    print(f"{len(rows) - len(failed)} of {len(rows)} without failure, {seconds:.0f} s")
    if options.dry_run:
        print("No GPU was used: this shows that the checks run, not that a GPU passes them.")
    write_json(Path(options.json), {"ran_on_gpu": not options.dry_run, "seconds": seconds, "checks": rows})
    print(f"details: {options.json}")
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--json", default="gpu_check.json", help="where the details go (default gpu_check.json)")
    parser.add_argument("--only", default="", help="names of checks, with commas; all when left out")
    parser.add_argument(
        "--dry-run", action="store_true", help="run what a CPU can: shows that the checks work, no more"
    )
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser


def choose(only: str) -> list[str]:
    """Names of the checks to run; raises ConfigError for one that there is not."""
    from megatron_mimo.training.device_checks import CHECKS

    names = [name.strip() for name in only.split(",") if name.strip()] or list(CHECKS)
    for name in names:
        if name not in CHECKS:
            raise ConfigError("--only", name, f"is no check; choose from {', '.join(CHECKS)}")
    return names


def require_gpu(dry_run: bool) -> None:
    """Raise UserError where the checks would have nothing to check."""
    import torch

    if not dry_run and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device is visible, so there is nothing to check here.\n"
            "Run this on a GPU machine, or list the checks and run what a CPU can with --dry-run."
        )


def run_here(name: str, on_gpu: bool) -> Any:
    """The check's Finding, in this process."""
    from megatron_mimo.training.device_checks import CHECKS

    return CHECKS[name].run(on_gpu)


def run_apart(name: str, dry_run: bool, end: float) -> dict[str, Any]:
    """A check in a separate process, stopped at its limit and at `end` of all; prints and returns its row."""
    from megatron_mimo.training.device_checks import CHECKS

    check = CHECKS[name]
    limit = max(1.0, end - time.perf_counter())
    if not dry_run:
        limit = min(limit, check.limit_seconds)
    command = [*own_program("gpu-check"), "--run", name] + ["--dry-run"] * dry_run
    start = time.perf_counter()
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment())
        found = read_finding(finished)
    except subprocess.TimeoutExpired:
        found = {"passed": False, "summary": f"stopped after {limit:.0f} s", "facts": {}}
    row = {"check": name, "title": check.title, "bar": check.bar, "seconds": time.perf_counter() - start} | found
    passed = "ran" if dry_run else "pass"
    word = {True: passed, False: "FAIL", None: "-"}[row["passed"]]
    print(f"{word:<5} {check.title:<43} {row['seconds']:>5.0f} s  {row['summary']}", flush=True)
    return row


def environment() -> dict[str, str]:
    """The checks' processes import this package, installed or not, and keep its warnings to themselves."""
    folders = [str(Path(megatron_mimo.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders)), "PYTHONWARNINGS": "ignore"}


def read_finding(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The Finding that a check's process printed last, or its failure with the end of what it said."""
    if finished.returncode == 0:
        return json.loads(finished.stdout.splitlines()[-1])
    lines = finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"]
    return {"passed": False, "summary": lines[-1][:200], "facts": {"stderr": "\n".join(lines[-40:])}}
