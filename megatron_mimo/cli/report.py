"""Write the HTML report of a run again: megatron-mimo report RUN_DIR"""

from pathlib import Path

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.training.report import write_report


def main(arguments: list[str] | None = None) -> int:
    """Write RUN_DIR/report.html from the run's metrics and configuration; returns the exit code."""
    parser = parser_of(__doc__)
    parser.add_argument("run_dir", type=Path, help="output_dir of a pre-training run")
    options = parser.parse_args(arguments)
    return exit_code(lambda: print(write_report(options.run_dir)))
