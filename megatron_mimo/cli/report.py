"""Write the HTML report of a run again: python tools/report.py RUN_DIR"""

import argparse
import sys
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.training.report import write_report


def main() -> int:
    parser = argparse.ArgumentParser(description="Write RUN_DIR/report.html from the run's metrics and configuration.")
    parser.add_argument("run_dir", type=Path, help="output_dir of a pre-training run")
    try:
        print(write_report(parser.parse_args().run_dir))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
