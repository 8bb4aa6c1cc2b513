"""Run a command of `megatron-mimo` from a checkout, installed or not. Any Python 3 must be able to read this file."""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(*words):
    # type: (*str) -> None
    """Run the command `words` with this script's arguments, and exit; 2 where this Python lacks what it needs."""
    # The processes that it starts must use this checkout too, not another one that is installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, ROOT)
    try:
        from megatron_mimo.cli import main
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    sys.exit(main([*words, *sys.argv[1:]]))
