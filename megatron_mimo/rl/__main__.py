"""RL post-training of MiMo: `megatron-mimo rl CONFIG.yaml [key=value ...]`.

One command starts trainer ranks, rollout engines and rewards under Ray, on this machine or on the Ray cluster that
RAY_ADDRESS names. The run resumes by itself; exit codes as of pre-training.
"""

import asyncio
import sys
from pathlib import Path

from megatron_mimo.config import RLConfig, load_with_origins
from megatron_mimo.config.explain import explained_yaml
from megatron_mimo.training.checkpoint_model import model_of
from megatron_mimo.training.launch import print_warnings, resume_command, run_program

USAGE = """usage: megatron-mimo rl CONFIG.yaml [key=value ...] [--print-config]
  CONFIG.yaml     an RL configuration, for example examples/nano/rl.yaml
  key=value       overrides: num_steps=50 rollout.num_groups=16 data.easy_pool_alpha=0
  --print-config  print the resolved configuration, with the place of each value, and stop"""


def main(arguments: list[str] | None = None) -> int:
    """Run one configuration; returns the exit code."""
    return run_program(USAGE, run, sys.argv[1:] if arguments is None else arguments)


def run(arguments: list[str]) -> int:
    """Load the configuration and train, or print it."""
    words = [argument for argument in arguments if argument != "--print-config"]
    config, layers = load_with_origins(RLConfig, words, model_of)
    # Imported late: torch takes seconds, in which a configuration can be refused; Ray's workers import this file again.
    if "--print-config" in arguments:
        from megatron_mimo.training.number_format import with_number_format

        print(explained_yaml(config, with_number_format(config), layers), end="")
        return 0
    from megatron_mimo.model.serving import serving_warning
    from megatron_mimo.platform.run_lock import run_lock
    from megatron_mimo.rl.loop import FINISHED, PREEMPTED
    from megatron_mimo.rl.run import train
    from megatron_mimo.training.disk import check_disk

    command, output_dir = resume_command("megatron_mimo.rl", arguments), Path(config.output_dir)
    marker = output_dir / "REQUEUE"
    with run_lock(output_dir):
        marker.unlink(missing_ok=True)
        print_warnings([serving_warning(config.model), *check_disk(config, output_dir)])
        print(f"resume with: {command}", flush=True)
        reason = asyncio.run(train(config, command))
        # A person who stops a run does not want the scheduler to start it again.
        if reason == PREEMPTED:
            marker.write_text(f"{command}\n")
    return 0 if reason == FINISHED else config.guard.requeue_exit_code


if __name__ == "__main__":
    sys.exit(main())
