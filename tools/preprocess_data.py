"""Make a tokenized data folder: `python tools/preprocess_data.py CONFIG.yaml [key=value ...]`.

CONFIG.yaml holds a `PreprocessConfig` (examples/nano/data.yaml is one). A finished, unchanged folder is kept; another
finished folder is only replaced with overwrite=true; an interrupted one goes on where it stopped.
"""

import sys
import time

from megatron_mimo.config import UserError, load
from megatron_mimo.data.preprocess import PreprocessConfig, preprocess


def main() -> int:
    """Run the job; returns the exit code."""
    start = time.monotonic()
    try:
        config = load(PreprocessConfig, sys.argv[1:])
        preprocess(config, lambda line: print(f"[{time.monotonic() - start:5.1f} s] {line}", flush=True))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"data folder ready: {config.output_dir} ({time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
