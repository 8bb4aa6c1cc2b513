"""What works on this machine's GPU, in under eight minutes and without a network: `make gpu-check`.

    megatron-mimo gpu-check [--json gpu_check.json] [--only heads,emulation]
    megatron-mimo gpu-check --dry-run        # without a GPU: list the checks, run what of them a CPU can

The checks run one after another in a process beside this one, each with a time limit. One that fails, hangs or loses
the device is a row of the table, and the rest runs in a new process. Exit code 0: every check passed; 1: some did not;
2: no GPU, or a wrong argument. The file that `--json` names is the whole result, to be read or mailed.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import megatron_mimo
from megatron_mimo.cli.command import exit_code, own_program, parser_of
from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.platform.files import write_json

GPU_SECONDS, DRY_RUN_SECONDS = 480, 3600
"""For all checks together."""
START_SECONDS, DRY_START_SECONDS = 60, 600
"""For a process to import what the checks need."""
READY = "ready"


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.run:
        return work(options.run.split(","), not options.dry_run)
    return exit_code(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Run the checks, print the table and write the details; 1 where a check failed. Raises UserError."""
    start = time.perf_counter()
    require_gpu(options.dry_run)
    warnings.simplefilter("ignore")
    rows = list(run_checks(choose(options.only), options.dry_run, start))
    seconds = time.perf_counter() - start
    failed = [row["check"] for row in rows if row["passed"] is False]
    print(f"{len(rows) - len(failed)} of {len(rows)} without failure, {seconds:.0f} s")
    if options.dry_run:
        print("No GPU was used: this shows that the checks run, not that a GPU passes them.")
    result = {"version": megatron_mimo.__version__, "ran_on_gpu": not options.dry_run, "seconds": seconds}
    write_json(Path(options.json), result | {"failed": failed, "checks": rows})
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
    from megatron_mimo.cli.gpu_checks import CHECKS

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


def run_checks(names: list[str], dry_run: bool, start: float) -> Iterator[dict[str, Any]]:
    """The rows of the table, printed as they come; a check that cannot be asked any more leaves the rest to another
    process, and what the time after `start` does not allow is a row as well."""
    from megatron_mimo.cli.gpu_checks import CHECKS

    end = start + (DRY_RUN_SECONDS if dry_run else GPU_SECONDS)
    left, worker = list(names), None
    while left:
        name, start = left.pop(0), time.perf_counter()
        check, found = CHECKS[name], None
        if start >= end:
            found = failure("not run: the time was used up")
        elif worker is None:
            worker = Worker([name, *left], dry_run)
            said = worker.answer(min(end, start + (DRY_START_SECONDS if dry_run else START_SECONDS)) - start)
            found = None if said == READY else failure(said or "the process did not start in time", worker)
        if found is None and worker is not None:
            limit = max(1.0, min(end - time.perf_counter(), DRY_RUN_SECONDS if dry_run else check.limit_seconds))
            said = worker.answer(limit)
            found = json.loads(said) if said else failure(worker.last_words(limit), worker)
        assert found is not None
        if found.pop("ends_worker", False) and worker is not None:
            worker.end()
            worker = None
        row = {"check": name, "title": check.title, "bar": check.bar, "seconds": time.perf_counter() - start} | found
        print(row_text(row, "ran" if dry_run else "pass"), flush=True)
        yield row
    if worker is not None:
        worker.end()


def failure(summary: str, worker: "Worker | None" = None) -> dict[str, Any]:
    """The row of a check whose process had nothing, or something else, to say."""
    return {"passed": False, "summary": summary[:200], "facts": {}, "ends_worker": worker is not None}


def row_text(row: dict[str, Any], passed: str) -> str:
    word = {True: passed, False: "FAIL", None: "-"}[row["passed"]]
    return f"{word:<5} {row['title']:<43} {row['seconds']:>5.0f} s  {row['summary']}"


class Worker:
    """A process that runs checks and prints `ready`, then each check's Finding as a line of JSON."""

    def __init__(self, names: list[str], dry_run: bool) -> None:
        command = [*worker_command(), "--run", ",".join(names)] + ["--dry-run"] * dry_run
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment(), start_new_session=True, **pipes)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        self._reader = threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def answer(self, seconds: float) -> str | None:
        """The next line, or None after so many seconds, or where the process has ended."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def last_words(self, limit: float) -> str:
        """Why there was no answer."""
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s"
        self._reader.join(timeout=1.0)
        return (self._errors or [f"exit code {self._process.returncode}"])[-1]

    def end(self) -> None:
        """End the process, and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            if line.startswith(("{", READY)):
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self, stream: IO[str]) -> None:
        self._errors += [line.rstrip("\n") for line in stream if line.strip()][-40:]


def worker_command() -> list[str]:
    return own_program("gpu-check")


def environment() -> dict[str, str]:
    """The checks' processes import this package, installed or not, and keep its warnings to themselves."""
    folders = [str(Path(megatron_mimo.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders)), "PYTHONWARNINGS": "ignore"}


def work(names: list[str], on_gpu: bool) -> int:
    """Run checks here. After one that fails the process ends: a GPU that met an error may answer nothing more."""
    from megatron_mimo.cli.gpu_checks import CHECKS

    print(READY, flush=True)
    for name in names:
        try:
            found = asdict(CHECKS[name].run(on_gpu))
        except Exception as error:
            lines = traceback.format_exc().splitlines()[-40:]
            summary = f"{type(error).__name__}: {error}".splitlines()[0]
            found = {"passed": False, "summary": summary[:200], "facts": {"trace": lines}, "ends_worker": True}
        print(json.dumps(found, default=str), flush=True)
        if found.get("ends_worker"):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
