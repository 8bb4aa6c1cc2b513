"""A storm of faults over tiny training runs: python benchmarks/storm.py --faults 60 --seed 1

Processes are killed, signalled and started twice, disks are full, checkpoints flipped, cut and robbed of files, layouts
changed, with saving between the steps and in the background. Every run must end on the curve of an undisturbed one, or
stop with a message, and no good checkpoint may be deleted: tests/support/storm.py says how that is asserted. About ten
CPU seconds per fault.

Faults come in storms of 11, one of each kind, with a seed each: --faults 60 --seed 1 is --faults 11 with the seeds 1 to
5, and --faults 5 with seed 6. So it can be run in pieces, and a storm that found something again.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from sys import path

path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.storm import KINDS, Storm
from support.tiny import make_tiny_data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started, runs, faults = time.monotonic(), 0, Counter[str]()
    for number, first in enumerate(range(0, options.faults, len(KINDS))):
        storm = one_storm(min(len(KINDS), options.faults - first), options.seed + number)
        runs, faults = runs + storm.runs, faults + storm.faults
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(faults.items()))
    print(f"{sum(faults.values())} faults ({kinds}) over {runs} runs in {time.monotonic() - started:.0f} s:")
    print("every run ended on the undisturbed curve, no good checkpoint was deleted")
    return 0


def one_storm(faults: int, seed: int) -> Storm:
    """The storm of a seed, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="storm_") as folder:
        (Path(folder) / "data").mkdir()
        storm = Storm(Path(folder), make_tiny_data(Path(folder) / "data"), seed, lambda line: print(line, flush=True))
        storm.blow(faults)
        return storm


if __name__ == "__main__":
    sys.exit(main())
