"""One training run from a torchrun-started process: process groups, run files, trainer, word for the scheduler."""

import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

from megatron_mimo.config import LoopConfig, TrainingConfig, UserError
from megatron_mimo.model.serving import serving_warning
from megatron_mimo.platform.files import write_json
from megatron_mimo.platform.output import outlast_readers
from megatron_mimo.platform.run_lock import run_lock
from megatron_mimo.platform.signals import (
    BY_HAND,
    Stopped,
    end_with_parent_process,
    ignore_stop_signals,
    stopped_at_once,
)

USER_ERROR_EXIT_CODE = 2
REQUEUE = "REQUEUE"
"""The file of a run's folder that asks for another start."""
COMMAND_VARIABLE = "MEGATRON_MIMO_COMMAND"
"""The command that started the launcher of this rank."""
MoreCallbacks = Callable[[TrainingConfig, Callable[[Path], None], Any], list[Any]]
"""(run, what saves the present weights to a folder, the callbacks that show) -> further callbacks."""


def launch(
    config: LoopConfig,
    prepare: Callable[[], tuple[TrainingConfig, Any]],
    write_run_files: Callable[[Path, TrainingConfig, str], None],
    command: str,
    more_callbacks: MoreCallbacks | None = None,
    forecast_only: bool = False,
) -> int:
    """Set up the process groups of `config`'s layout, train, and return the exit code.

    `prepare` runs on every rank once they have met; it returns the run, whose length is known only now where
    conversations had to be packed, and its TrainingData. `write_run_files(output_dir, run, command)` runs on rank 0
    when the run is known to start. `more_callbacks` builds callbacks from packages that training must not import; they
    run last. `forecast_only` measures some steps, says how long the run will take here, and leaves nothing behind.
    """
    warnings.filterwarnings("ignore", module="megatron")
    # megatron-core calls what torch has renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    # Imported late: the checkpoint writer imports the program's file again in its own processes, which need none of it.
    import torch.distributed as dist

    from megatron_mimo.platform import cpu

    cpu.keep_compiler_out()
    from megatron_mimo.model.spec import choose_backend
    from megatron_mimo.platform.trackers import check_installed
    from megatron_mimo.training.callbacks import Callback, Callbacks, default_callbacks
    from megatron_mimo.training.disk import check_disk
    from megatron_mimo.training.distributed import World, distributed, is_reporting_rank
    from megatron_mimo.training.run_plan import RunPlan
    from megatron_mimo.training.stage_layout import StageLayout, release_memory
    from megatron_mimo.training.trainer import FINISHED, OTHER_LAYOUT, PREEMPTED, Trainer

    class RunFiles(Callback):
        """Written once the run is known to start: a refused one must not overwrite an earlier run's files."""

        def on_start(self, plan: RunPlan, step: int, consumed_tokens: int) -> None:
            if rank == 0:
                write_run_files(output_dir, run, command)
                write_environment(output_dir, trainer.chosen_backends())

    rank = int(os.environ.get("RANK", "0"))
    output_dir = Path(config.output_dir)
    choose_backend(config.precision)
    check_installed(config.logging.trackers)
    config.check_world_size(World.from_environment().size)

    def train() -> int | None:
        """The exit code; None to be called again, in the layout of another stage."""
        nonlocal run, trainer
        with distributed(config, layout), ExitStack() as stack:
            if forecast_only:
                return show_forecast(prepare, layout.stage or 0)
            requeue_marker = output_dir / REQUEUE
            on_rank_0(lambda: stack.enter_context(run_lock(output_dir)))
            on_rank_0(lambda: tidy(output_dir))
            if rank == 0:
                print(f"resume with: {command}", flush=True)
            try:
                run, data = prepare()
                on_rank_0(lambda: print_warnings([serving_warning(run.model), *check_disk(run, output_dir)]))
                shown = default_callbacks(run, is_reporting_rank())
                more = more_callbacks(run, lambda folder: trainer.save_weights(folder), shown) if more_callbacks else []
                cut = run.cut_for(run.stages[layout.stage or 0])
                trainer = Trainer(cut, data, Callbacks([RunFiles(), shown, *more]))
                reason = trainer.fit()
                if reason == OTHER_LAYOUT:
                    layout.stage = trainer.progress.stage
                    return None
                ignore_stop_signals()
            except Stopped as stopped:
                stopped.exit_code = config.guard.requeue_exit_code
                # A person who stops a run does not want the scheduler to start it again.
                if rank == 0 and str(stopped) not in BY_HAND:
                    requeue_marker.write_text(f"{command}\n")
                raise
            except UserError:
                raise
            except Exception:
                say_failed(rank, command)
                raise
            if reason != FINISHED:
                # The rank that shows the run has had its last word: how to continue is what stays on the screen.
                dist.barrier()
            if rank == 0 and reason == PREEMPTED:
                requeue_marker.write_text(f"{command}\n")
            if rank == 0 and reason != FINISHED:
                print(f"saved after step {trainer.progress.step}; resume with: {command}", flush=True)
            return 0 if reason == FINISHED else config.guard.requeue_exit_code

    layout = StageLayout(config)
    run: Any = None
    trainer: Any = None
    while (code := train()) is None:
        # The next layout needs the memory of this one.
        trainer = None
        release_memory()
    return code


def tidy(output_dir: Path) -> None:
    """Remove what an earlier start left in the folder of this run, which this process holds; raises UserError."""
    from megatron_mimo.training.checkpoint_files import CHECKPOINTS, remove_unfinished

    try:
        (output_dir / REQUEUE).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot remove {output_dir / REQUEUE}: {error.strerror}; move it away") from error
    remove_unfinished(output_dir / CHECKPOINTS)


def show_forecast(prepare: Callable[[], tuple[TrainingConfig, Any]], stage: int) -> int:
    """Measure the run that `prepare` gives in the layout of a stage, and say how long it will take."""
    from megatron_mimo.training.callbacks import Callback
    from megatron_mimo.training.forecast import print_forecast
    from megatron_mimo.training.trainer import Trainer

    run, data = prepare()
    cut = run.cut_for(run.stages[stage])
    others = [one.name for one in run.stages if run.layout(one) != cut.parallel]
    if others and int(os.environ.get("RANK", "0")) == 0:
        print(
            f"{', '.join(others)}: cut otherwise (stages[].parallel), and measured as {cut.stages[stage].name} is cut"
        )
    print_forecast(Trainer(cut, data, Callback()))
    return 0


def on_rank_0(action: Callable[[], Any]) -> None:
    """Run it on rank 0; the UserError that it raises is raised on all ranks."""
    import torch.distributed as dist

    problem: list[str | None] = [None]
    if dist.get_rank() == 0:
        try:
            action()
        except UserError as error:
            problem = [str(error)]
    dist.broadcast_object_list(problem, src=0)
    if problem[0] is not None:
        raise UserError(problem[0])


def say_failed(rank: int, command: str) -> None:
    """Its own function: a stop signal that waits for a collective to end is raised on the way in."""
    print(f"rank {rank} failed; resume with: {command}", file=sys.stderr, flush=True)


def print_warnings(lines: list[str | None]) -> None:
    """One line each; None is none."""
    for line in lines:
        if line is not None:
            print(line, file=sys.stderr, flush=True)


def run_program(usage: str, run: Callable[[list[str]], int], arguments: list[str]) -> int:
    """The exit code of `run(arguments)`; prints the usage where help is asked for or nothing given.

    A UserError is printed; under torchrun rank 0 alone prints if the others stop in time.
    """
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(usage)
        return 0 if arguments else USER_ERROR_EXIT_CODE
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent_process()
    outlast_readers()
    try:
        with stopped_at_once():
            return run(arguments)
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            print(
                f"\n{stopped}: stopped, with nothing to save; the same command continues", file=sys.stderr, flush=True
            )
        return stopped.exit_code
    except UserError as error:
        if int(os.environ.get("RANK", "0")) != 0:
            # Rank 0 usually has the same to say, and torchrun stops the others as soon as it exits.
            time.sleep(3.0)
        print(f"\n{error}", file=sys.stderr, flush=True)
        return USER_ERROR_EXIT_CODE


def resume_command(module: str, arguments: list[str]) -> str:
    """The command that continues this run; it is the command that started it, as the user gave it."""
    if COMMAND_VARIABLE in os.environ:
        return os.environ[COMMAND_VARIABLE]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return torchrun_command(module, arguments)
    if sys.argv[0].startswith("megatron-mimo "):
        return f"{sys.argv[0]} {shlex.join(arguments)}"
    return f"{Path(sys.executable).name} -m {module} {shlex.join(arguments)}"


def torchrun_command(module: str, arguments: list[str]) -> str:
    """torchrun's command line, which is that of the process that started this rank, without its interpreter's path."""
    with suppress(psutil.Error):
        words = psutil.Process(os.getppid()).cmdline()
        for index, word in enumerate(words):
            if Path(word).name == "torchrun":
                return shlex.join(["torchrun", *words[index + 1 :]])
            if word in ("torch.distributed.run", "torch.distributed.launch"):
                return shlex.join([Path(words[0]).name, "-m", *words[index:]])
    nodes, ranks = os.environ["GROUP_WORLD_SIZE"], os.environ["LOCAL_WORLD_SIZE"]
    return f"torchrun --nnodes {nodes} --nproc-per-node {ranks} -m {module} {shlex.join(arguments)}"


def write_environment(output_dir: Path, chosen_backends: dict[str, str]) -> None:
    """environment.json, and the same as one screen of text at the start of the log."""
    from megatron_mimo.platform.environment import environment_report, environment_text

    report = environment_report(chosen_backends)
    write_json(output_dir / "environment.json", report)
    print(environment_text(report), flush=True)
