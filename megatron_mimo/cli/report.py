"""Write the HTML report of a run again: megatron-mimo report RUN_DIR"""

import argparse
from pathlib import Path

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.record.rows import TIMELINE


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = parser_of(__doc__)
    found.add_argument("run_dir", type=Path, help="output_dir of a run: pre-training, fine-tuning or RL")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Write RUN_DIR/report.html from the run's metrics and configuration; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: write(options.run_dir))


def write(run_dir: Path) -> None:
    """Write what the run has pages for, and print where; raises UserError."""
    if not (run_dir / TIMELINE).is_file():
        from megatron_mimo.training.report import write_report

        print(write_report(run_dir))
        return
    from megatron_mimo.rl.report import write_report as write_rl_report
    from megatron_mimo.rl.rollout_page import write_rollout_page

    print(write_rl_report(run_dir))
    if rollouts := write_rollout_page(run_dir):
        print(rollouts)
