"""Pre-train MiMo: `torchrun --nproc-per-node N -m megatron_mimo.pretrain CONFIG.yaml [key=value ...]`.

The run resumes by itself from the newest good checkpoint in `output_dir`. Exit codes: 0 finished, 2 a problem that the
message explains, 85 (guard.requeue_exit_code) saved and stopped for the scheduler, 86 a rank hung.
"""

import json
import os
import shlex
import shutil
import sys
import time
import warnings
from copy import deepcopy
from pathlib import Path

from megatron_mimo.config import PretrainConfig, UserError, load, to_yaml

USAGE = """usage: python -m megatron_mimo.pretrain CONFIG.yaml [key=value ...] [--print-config]
  CONFIG.yaml     a pre-training configuration, for example examples/nano/pretrain.yaml
  key=value       overrides, list items included: stages.0.tokens=1e6 parallel.tensor_model_parallel_size=2
  --print-config  print the resolved configuration and stop"""
USER_ERROR_EXIT_CODE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run one configuration; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(USAGE)
        return 0 if arguments else USER_ERROR_EXIT_CODE
    rank = int(os.environ.get("RANK", "0"))
    try:
        config = load(PretrainConfig, [argument for argument in arguments if argument != "--print-config"])
        if "--print-config" in arguments:
            print(to_yaml(config), end="")
            return 0
        return run(config, Path(arguments[0]), arguments, rank)
    except UserError as error:
        if rank != 0:
            # Rank 0 usually has the same to say, and torchrun stops the others as soon as it exits.
            time.sleep(3.0)
        print(f"\n{error}", file=sys.stderr, flush=True)
        return USER_ERROR_EXIT_CODE


def run(config: PretrainConfig, config_path: Path, arguments: list[str], rank: int) -> int:
    """Set up the process group, train, and leave word for the scheduler."""
    warnings.filterwarnings("ignore", module="megatron")
    # Imported late: the checkpoint writer imports this file again in its own processes, which need none of it.
    from megatron_mimo.model.spec import choose_backend
    from megatron_mimo.training.callbacks import Callback, Callbacks, default_callbacks
    from megatron_mimo.training.distributed import distributed, is_reporting_rank
    from megatron_mimo.training.trainer import PREEMPTED, Trainer
    from megatron_mimo.training.training_data import PretrainingData

    class RunFiles(Callback):
        """Written once the run is known to start: a refused one must not overwrite an earlier run's files."""

        def on_start(self, config: PretrainConfig, step: int, consumed_tokens: int) -> None:
            if rank == 0:
                write_run_files(output_dir, config, config_path.parent, command)
                write_environment(output_dir, trainer.chosen_backends())

    output_dir = Path(config.output_dir)
    command = resume_command(arguments)
    choose_backend(config.precision)
    with distributed(config):
        requeue_marker = output_dir / "REQUEUE"
        if rank == 0:
            requeue_marker.unlink(missing_ok=True)
            print(f"resume with: {command}", flush=True)
        try:
            shown = default_callbacks(output_dir, is_reporting_rank())
            data = PretrainingData(config, config_path.parent)
            trainer = Trainer(config, data, Callbacks([RunFiles(), shown]))
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


def resume_command(arguments: list[str]) -> str:
    """The command that continues this run; it is the command that started it."""
    program = f"{Path(sys.executable).name} -m megatron_mimo.pretrain"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        nodes = int(os.environ["GROUP_WORLD_SIZE"])
        program = (
            f"torchrun --nnodes {nodes} --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} -m megatron_mimo.pretrain"
        )
    return f"{program} {shlex.join(arguments)}"


def write_run_files(output_dir: Path, config: PretrainConfig, config_folder: Path, command: str) -> None:
    """config.yaml, its mixtures and command.txt: the run folder alone can start the run again.

    Raises UserError where the folder cannot be written or a mixture is missing.
    """
    copy = deepcopy(config)
    try:
        (output_dir / "mixtures").mkdir(parents=True, exist_ok=True)
        for stage in copy.stages:
            mixture = f"mixtures/{stage.name}.yaml"
            if (config_folder / stage.mixture).resolve() != (output_dir / mixture).resolve():
                shutil.copyfile(config_folder / stage.mixture, output_dir / mixture)
            stage.mixture = mixture
        (output_dir / "config.yaml").write_text(to_yaml(copy))
        (output_dir / "command.txt").write_text(command + "\n")
    except FileNotFoundError as error:
        raise UserError(f"the mixture file {error.filename} is missing; stages[].mixture names it") from error
    except OSError as error:
        raise UserError(
            f"cannot write the run folder {output_dir}: {error.strerror}; choose another output_dir"
        ) from error


def write_environment(output_dir: Path, chosen_backends: dict[str, str]) -> None:
    """environment.json, and the same as one screen of text at the start of the log."""
    from megatron_mimo.platform.environment import environment_report, environment_text

    report = environment_report(chosen_backends)
    (output_dir / "environment.json").write_text(json.dumps(report, indent=1))
    print(environment_text(report), flush=True)


if __name__ == "__main__":
    sys.exit(main())
