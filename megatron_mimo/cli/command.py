"""What the commands have in common: how they read their arguments, and how errors leave them."""

import argparse
import sys
from collections.abc import Callable, Sequence

from megatron_mimo.config import UserError

INTERRUPTED_EXIT_CODE = 130


def parser_of(text: str | None, parents: Sequence[argparse.ArgumentParser] = ()) -> argparse.ArgumentParser:
    """A parser that shows the command's docstring as it is written; the program's name is that of the call.

    It has the options of `parents` too; one that is added again takes the place of theirs.
    """
    return argparse.ArgumentParser(
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=list(parents),
        conflict_handler="resolve",
    )


def settings_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser of `CONFIG.yaml key=value ...`; options may stand between them (`parse_intermixed_args`)."""
    parser = parser_of(text)
    parser.add_argument("settings", nargs="+", metavar="CONFIG.yaml key=value", help="configuration, then overrides")
    return parser


def exit_code(run: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """The exit code of a command: what `run` returns (None is 0), 2 for a problem that the user can mend.

    The problem is printed without a trace. Ctrl-C prints `interrupted` and gives 130.
    """
    try:
        return run() or 0
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE


def own_program(name: str) -> list[str]:
    """The command line that starts `megatron-mimo NAME` with this Python, from any folder."""
    return [sys.executable, "-m", "megatron_mimo", name]
