"""A storm of faults over tiny training runs: python benchmarks/storm.py --faults 60 --seed 1

Processes are killed, signalled and started twice, checkpoints flipped, cut and robbed of files, layouts changed, with
saving between the steps and in the background. Every run must end on the curve of an undisturbed one, or stop with a
message, and no good checkpoint may be deleted: tests/support/storm.py says how that is asserted. About ten CPU seconds
a fault.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from sys import path

path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.storm import Storm
from support.tiny import make_tiny_data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="storm_") as folder:
        (Path(folder) / "data").mkdir()
        storm = Storm(
            Path(folder), make_tiny_data(Path(folder) / "data"), options.seed, lambda line: print(line, flush=True)
        )
        storm.blow(options.faults)
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(storm.faults.items()))
    print(
        f"{sum(storm.faults.values())} faults ({kinds}) over {storm.runs} runs in {time.monotonic() - started:.0f} s:"
    )
    print("every run ended on the undisturbed curve, no good checkpoint was deleted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
