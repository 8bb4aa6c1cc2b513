"""`python -m megatron_mimo NAME`: the same as `megatron-mimo NAME`."""

import sys

from megatron_mimo.cli import main

if __name__ == "__main__":
    sys.exit(main())
