"""megatron-mimo: an open, runnable reproduction of Xiaomi's MiMo-7B training system."""

import sys

from megatron_mimo.missing import OLDEST_PYTHON, missing_package, way_out

__version__ = "0.2.0"

if sys.version_info < OLDEST_PYTHON or missing_package():
    WAY_OUT = way_out(missing_package())
    if sys.argv[:1] == ["-m"]:
        # python -m megatron_mimo...: a person at a terminal, who needs no trace.
        print(WAY_OUT, file=sys.stderr)
        sys.exit(2)
    raise ImportError(WAY_OUT)
