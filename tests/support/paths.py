"""Where the project is, and the environment of the programs that tests start."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parents[1]
OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without torchrun's variables, with the package and tests/support importable."""
    kept = {key: value for key, value in os.environ.items() if key not in OF_TORCHRUN}
    path = os.pathsep.join([str(ROOT), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | extra
