"""Pre-train MiMo: `megatron-mimo pretrain CONFIG.yaml [key=value ...] --nproc N`.

The run resumes by itself from the newest good checkpoint in `output_dir`. Exit codes: 0 finished, 2 a problem that the
message explains, 85 (guard.requeue_exit_code) saved and stopped on request, 86 a rank hung. Also under torchrun:
`torchrun --nproc-per-node N -m megatron_mimo.pretrain CONFIG.yaml`, which answers 1 for all of these but 0.
"""

import shutil
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from megatron_mimo.config import PretrainConfig, TrainingConfig, UserError, load, load_with_origins, to_yaml
from megatron_mimo.config.explain import explained_yaml
from megatron_mimo.platform.files import write_text
from megatron_mimo.training.checkpoint_model import model_of
from megatron_mimo.training.elastic import with_ranks
from megatron_mimo.training.launch import launch, resume_command, run_program
from megatron_mimo.training.launch_options import LAUNCH_USAGE

USAGE = (
    """usage: megatron-mimo pretrain CONFIG.yaml [key=value ...] [--nproc N] [--forecast | --print-config]
  CONFIG.yaml     a pre-training configuration, for example examples/nano/pretrain.yaml
  key=value       overrides, list items included: stages.0.tokens=1e6 parallel.tensor_model_parallel_size=2
  --forecast      measure a few steps, say how long the run will take here, and stop
  --print-config  print the resolved configuration, with the place of each value, and stop"""
    + LAUNCH_USAGE
)
FLAGS = ("--forecast", "--print-config")
Check = Callable[[PretrainConfig], None]
"""Raises UserError for a configuration that a command does not take."""


def takes_all(config: PretrainConfig) -> None:
    """The check of pre-training itself: whatever loads can be trained."""


def main(arguments: list[str] | None = None, usage: str = USAGE, check: Check = takes_all) -> int:
    """Run one configuration; returns the exit code."""
    program = with_ranks("megatron_mimo.pretrain", partial(run, check=check), partial(settings, check=check))
    return run_program(usage, program, sys.argv[1:] if arguments is None else arguments)


def settings(arguments: list[str], check: Check = takes_all) -> PretrainConfig | None:
    """What the ranks will run, None where none are needed."""
    config = load(PretrainConfig, [argument for argument in arguments if argument not in FLAGS], model_of)
    check(config)
    return None if "--print-config" in arguments else config


def run(arguments: list[str], check: Check = takes_all) -> int:
    """Load the configuration and train, or print it."""
    words = [argument for argument in arguments if argument not in FLAGS]
    given, layers = load_with_origins(PretrainConfig, words, model_of)
    check(given)
    # Imported late: torch takes seconds, in which a configuration can be refused and Ctrl-C heard.
    from megatron_mimo.training.number_format import with_number_format

    config = with_number_format(given)
    if "--print-config" in arguments:
        print(explained_yaml(given, config, layers), end="")
        return 0
    folder = Path(arguments[0]).parent

    def prepare() -> tuple[PretrainConfig, Any]:
        from megatron_mimo.training.training_data import PretrainingData

        return config, PretrainingData(config, folder)

    def write(output_dir: Path, run: TrainingConfig, command: str) -> None:
        write_run_files(output_dir, config, folder, command)  # `config` is the run, and knows its mixtures

    from megatron_mimo.eval.task_scores import task_scores

    command = resume_command("megatron_mimo.pretrain", arguments)
    return launch(config, prepare, write, command, task_scores, forecast_only="--forecast" in arguments)


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
        write_text(output_dir / "config.yaml", to_yaml(copy))
        write_text(output_dir / "command.txt", command + "\n")
    except FileNotFoundError as error:
        raise UserError(f"the mixture file {error.filename} is missing; stages[].mixture names it") from error
    except OSError as error:
        raise UserError(
            f"cannot write the run folder {output_dir}: {error.strerror}; choose another output_dir"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
