"""Completion in the shell: commands, options, recipes and keys.

    eval "$(megatron-mimo completion bash)"       in ~/.bashrc
    eval "$(megatron-mimo completion zsh)"        in ~/.zshrc
    megatron-mimo completion fish | source        in ~/.config/fish/config.fish

The shell asks `megatron-mimo completion --words ...` for what may follow; it answers without loading the command.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterable

from megatron_mimo.cli.command import parser_of
from megatron_mimo.cli.commands import COMMANDS

BASH = """_megatron_mimo() {
    local IFS=$'\\n'
    COMPREPLY=($(megatron-mimo completion --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2> /dev/null))
    case ${COMPREPLY[0]-} in *= | *.) compopt -o nospace ;; esac
}
complete -o default -F _megatron_mimo megatron-mimo"""
ZSH = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n" + BASH
FISH = """complete -c megatron-mimo -f -k \\
    -a '(megatron-mimo completion --words (commandline -opc)[2..] (commandline -ct) 2> /dev/null)'"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = parser_of(__doc__)
    found.add_argument("shell", nargs="?", choices=SCRIPTS, help="print what this shell needs")
    found.add_argument("--words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the shell's function, or what may follow the words; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--words"]:
        print("\n".join(candidates(given[1:])))
        return 0
    options = parser().parse_args(given)
    if options.shell is None:
        parser().error("name the shell: bash, zsh or fish")
    print(SCRIPTS[options.shell])
    return 0


def candidates(words: list[str]) -> list[str]:
    """What the last word, which may be empty, can become."""
    *before, last = words or [""]
    if not before:
        return _beginning(last, COMMANDS)
    name = before[0]
    if name not in COMMANDS:
        return []
    command = COMMANDS[name]
    if before[-1] in ("-h", "--help"):
        return _beginning(last, keys_of(name, "")) if command.config else []
    if last.startswith("-"):
        return _beginning(last, options_of(name))
    if command.config and any(word.endswith((".yaml", ".yml")) for word in before):
        return _beginning(last, keys_of(name, "="))
    actions = [flag for flag in command.flags if not flag.startswith("-")] if len(before) == 1 else []
    return _beginning(last, actions) + files(last)


def options_of(name: str) -> list[str]:
    """Options with two dashes of a command whose module can name them without loading what it runs."""
    flags = [flag for flag in COMMANDS[name].flags if flag.startswith("-")]
    module = COMMANDS[name].module
    if module.startswith("megatron_mimo.cli."):
        make = getattr(importlib.import_module(module), "parser", None)
        if make is not None:
            flags += [word for action in make()._actions for word in action.option_strings if word.startswith("--")]
    return list(dict.fromkeys([*flags, "--help"]))


def keys_of(name: str, sign: str) -> list[str]:
    """Keys of the command's configuration, ready for a value; the first item of lists stands for all."""
    from megatron_mimo.cli.key_help import config_of
    from megatron_mimo.config.describe import ITEM, settings_of

    found = settings_of(config_of(name))
    return [setting.key.replace(ITEM, "0") + sign for setting in found if not (sign and setting.is_section)]


def files(last: str) -> list[str]:
    """YAML files and folders below what has been typed."""
    folder, _, start = last.rpartition("/")
    place = folder or ("/" if last.startswith("/") else ".")
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return []
    prefix = last[: len(last) - len(start)]
    shown = [entry for entry in entries if entry.name.startswith(start) and (start or not entry.name.startswith("."))]
    names = [prefix + entry.name + ("/" if entry.is_dir() else "") for entry in shown]
    return [name for name in names if name.endswith(("/", ".yaml", ".yml"))]


def _beginning(start: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(start)]
