"""The `megatron-mimo` command: every program of the project under one name."""

import difflib
import importlib
import itertools
import os
import sys
import traceback

from megatron_mimo import __version__
from megatron_mimo.cli.commands import COMMANDS, GROUPS, OLD_NAMES
from megatron_mimo.missing import is_installed, way_out

HELP = ("-h", "--help")
BROKEN_PIPE_EXIT_CODE = 141
"""What a shell says of a program that died of SIGPIPE."""
_EXPLAINED = """
Each command has a --help. Commands that read a configuration take CONFIG.yaml, then key=value, and options with two
dashes anywhere; their --help KEY explains a setting, for example: megatron-mimo pretrain --help stages.0.tokens"""


def usage() -> str:
    """All commands with a line each."""
    lines = ["usage: megatron-mimo COMMAND [CONFIG.yaml] [key=value ...] [--option ...]"]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<22}{command.text}" for name, command in commands.items())]
    return "\n".join([*lines, _EXPLAINED])


def main(arguments: list[str] | None = None) -> int:
    """Run a command, or print the list; returns the exit code."""
    try:
        return _run((sys.argv[1:] if arguments is None else arguments) or ["--help"])
    except BrokenPipeError:
        # Whoever read the output has read enough, as `| head` does; Python would complain when it flushes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_EXIT_CODE


def _run(words: list[str]) -> int:
    name, *rest = words
    if name == "help" and rest:
        name, rest = rest[0], ["--help", *rest[1:]]
    if name in (*HELP, "help"):
        print(usage())
        return 0
    if name == "--version":
        print(__version__)
        return 0
    if name in OLD_NAMES:
        new = OLD_NAMES[name]
        print(f"megatron-mimo {name} is now: megatron-mimo {' '.join(new)}", file=sys.stderr)
        return main([*new, *rest])
    if name not in COMMANDS:
        print(unknown(name), file=sys.stderr)
        return 2
    if COMMANDS[name].config and (key := _explained_key(rest)):
        from megatron_mimo.cli.key_help import main as explain

        return explain(name, key)
    # Every program reads its arguments from here, as it does when it is started by itself.
    sys.argv = [f"megatron-mimo {name}", *rest]
    try:
        return importlib.import_module(COMMANDS[name].module).main() or 0
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or is_installed(package):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(f"{way_out(package)}\n({place.filename}:{place.lineno} imports it)", file=sys.stderr)
        return 2


def unknown(name: str) -> str:
    """That there is no such command, and which were perhaps meant."""
    near = difflib.get_close_matches(name, [*COMMANDS, *OLD_NAMES], n=3)
    found = dict.fromkeys(" ".join(OLD_NAMES.get(each, (each,))) for each in near)
    hint = f": perhaps you meant {' or '.join(found)}" if found else ""
    return f"unknown command {name!r}{hint}\n\n{usage()}"


def _explained_key(arguments: list[str]) -> str:
    """KEY of `--help KEY`; empty without one."""
    for word, key in itertools.pairwise(arguments):
        if word in HELP and not key.startswith("-") and not key.endswith((".yaml", ".yml")):
            return key.partition("=")[0]
    return ""
