"""One training run from a torchrun-started process: process groups, run files, trainer, word for the scheduler."""

import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from megatron_mimo.config import PretrainConfig, UserError
from megatron_mimo.platform.files import write_json

USER_ERROR_EXIT_CODE = 2
MoreCallbacks = Callable[[PretrainConfig, Callable[[Path], None], Any], list[Any]]
"""(run, what saves the present weights to a folder, the callbacks that show) -> further callbacks."""


def launch(
    config: PretrainConfig,
    prepare: Callable[[], tuple[PretrainConfig, Any]],
    write_run_files: Callable[[Path, PretrainConfig, str], None],
    command: str,
    more_callbacks: MoreCallbacks | None = None,
) -> int:
    """Set up the process groups of `config`'s layout, train, and return the exit code.

    `prepare` runs on every rank once they have met; it returns the run, whose length may be known only now, and its
    TrainingData. `write_run_files(output_dir, run, command)` runs on rank 0 when the run is known to start.
    `more_callbacks` makes those that need rooms which this one must not know; they come last.
    """
    warnings.filterwarnings("ignore", module="megatron")
    # Imported late: the checkpoint writer imports the program's file again in its own processes, which need none of it.
    from megatron_mimo.platform import cpu

    cpu.keep_compiler_out()
    from megatron_mimo.model.spec import choose_backend
    from megatron_mimo.training.callbacks import Callback, Callbacks, default_callbacks
    from megatron_mimo.training.distributed import distributed, is_reporting_rank
    from megatron_mimo.training.trainer import PREEMPTED, Trainer

    class RunFiles(Callback):
        """Written once the run is known to start: a refused one must not overwrite an earlier run's files."""

        def on_start(self, config: PretrainConfig, step: int, consumed_tokens: int) -> None:
            if rank == 0:
                write_run_files(output_dir, config, command)
                write_environment(output_dir, trainer.chosen_backends())

    rank = int(os.environ.get("RANK", "0"))
    output_dir = Path(config.output_dir)
    choose_backend(config.precision)
    with distributed(config):
        requeue_marker = output_dir / "REQUEUE"
        if rank == 0:
            requeue_marker.unlink(missing_ok=True)
            print(f"resume with: {command}", flush=True)
        try:
            config, data = prepare()
            shown = default_callbacks(output_dir, is_reporting_rank())
            more = more_callbacks(config, lambda folder: trainer.save_weights(folder), shown) if more_callbacks else []
            trainer = Trainer(config, data, Callbacks([RunFiles(), shown, *more]))
            reason = trainer.fit()
        except Exception:
            print(f"rank {rank} failed; resume with: {command}", file=sys.stderr, flush=True)
            raise
        if reason != PREEMPTED:
            return 0
        if rank == 0:
            requeue_marker.write_text(f"{command}\n")
            print(f"saved for the scheduler; resume with: {command}", flush=True)
        return config.guard.requeue_exit_code


def run_program(usage: str, run: Callable[[list[str]], int], arguments: list[str]) -> int:
    """The exit code of `run(arguments)`; prints the usage where help is asked for or nothing given.

    A UserError is printed; under torchrun by rank 0 alone, where the others hold their peace in time.
    """
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(usage)
        return 0 if arguments else USER_ERROR_EXIT_CODE
    try:
        return run(arguments)
    except UserError as error:
        if int(os.environ.get("RANK", "0")) != 0:
            # Rank 0 usually has the same to say, and torchrun stops the others as soon as it exits.
            time.sleep(3.0)
        print(f"\n{error}", file=sys.stderr, flush=True)
        return USER_ERROR_EXIT_CODE


def resume_command(module: str, arguments: list[str]) -> str:
    """The command that continues this run; it is the command that started it."""
    program = f"{Path(sys.executable).name} -m {module}"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        nodes = int(os.environ["GROUP_WORLD_SIZE"])
        program = f"torchrun --nnodes {nodes} --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} -m {module}"
    return f"{program} {shlex.join(arguments)}"


def write_environment(output_dir: Path, chosen_backends: dict[str, str]) -> None:
    """environment.json, and the same as one screen of text at the start of the log."""
    from megatron_mimo.platform.environment import environment_report, environment_text

    report = environment_report(chosen_backends)
    write_json(output_dir / "environment.json", report)
    print(environment_text(report), flush=True)
