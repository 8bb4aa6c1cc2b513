"""`megatron-mimo COMMAND --help KEY`: a setting's type, default, unit, section of the report, and what it is for."""

import difflib
import importlib
import re
import shutil
import textwrap
from typing import Any

from megatron_mimo.cli.command import exit_code
from megatron_mimo.cli.commands import COMMANDS
from megatron_mimo.config.describe import ITEM, Setting, dataclasses_in, settings_of
from megatron_mimo.config.errors import UserError
from megatron_mimo.config.renamed import old_names

ALL = "keys"
"""In the place of KEY: list every one."""


def main(command: str, key: str) -> int:
    """Print what KEY is, or which keys there are; returns the exit code."""
    return exit_code(lambda: print(explain(command, key)))


def config_of(command: str) -> Any:
    """The configuration dataclass of a command."""
    module, _, name = COMMANDS[command].config.partition(":")
    return getattr(importlib.import_module(module), name)


def explain(command: str, key: str) -> str:
    """The text for a key, a section, the last part of a key, or `keys`; raises UserError for what is none of them."""
    settings = list(settings_of(config_of(command)))
    if key == ALL:
        return table(settings)
    wanted = re.sub(r"(?<=\.)\d+(?=\.|$)", ITEM, key)
    exact = [setting for setting in settings if setting.key == wanted]
    within = [setting for setting in settings if setting.key.startswith(f"{wanted}.")]
    if exact:
        said = details(exact[0], command)
        return f"{said}\n\n{table(within)}" if within else said
    # A part of a name is enough where it is meant as one: `seq_length` finds stages.*.seq_length, then deeper ones.
    ending = [setting for setting in settings if setting.key.endswith(f".{wanted}")]
    ending.sort(key=lambda setting: setting.key.count("."))
    if ending:
        return "\n\n".join(details(setting, command) for setting in ending)
    if renamed := _present_name(config_of(command), wanted):
        return f"{wanted} is now called {renamed}\n\n{explain(command, renamed)}"
    last = {setting.key.rpartition(".")[2]: setting.key for setting in settings}
    near = difflib.get_close_matches(wanted, [setting.key for setting in settings], n=3)
    near += [last[name] for name in difflib.get_close_matches(wanted.rpartition(".")[2], last, n=3)]
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
    raise UserError(f"{command} has no setting {key}; {hint} megatron-mimo {command} --help {ALL} lists all")


def _present_name(config_class: Any, key: str) -> str:
    """The present name of a setting that had another one; empty where there is none."""
    section, _, name = key.rpartition(".")
    for found in dataclasses_in(config_class):
        if name in old_names(found):
            return f"{section}.{old_names(found)[name]}" if section else old_names(found)[name]
    return ""


def details(setting: Setting, command: str) -> str:
    """Everything about one setting."""
    lines = [setting.key]
    if setting.text:
        lines += textwrap.wrap(setting.text, width=100, initial_indent="  ", subsequent_indent="  ")
    lines.append(f"  value:    {setting.kind}")
    if not (setting.is_section and setting.default is None):
        lines.append(f"  default:  {'none, it must be given' if setting.default is None else setting.default}")
    if setting.unit:
        lines.append(f"  unit:     {setting.unit}")
    if setting.section:
        lines.append(f"  report:   section {setting.section}")
    if not setting.is_section:
        example = setting.key.replace(ITEM, "0")
        lines.append(f"  override: megatron-mimo {command} CONFIG.yaml {example}={setting.default or '...'}")
    return "\n".join(lines)


def table(settings: list[Setting]) -> str:
    """A line for each setting."""
    width = max(len(setting.key) for setting in settings)
    columns = max(shutil.get_terminal_size((120, 40)).columns, width + 40)
    lines = []
    for setting in settings:
        value = setting.kind if setting.is_section else (setting.default or "(must be given)")
        line = f"{setting.key:<{width}}  {value:<14} {setting.unit and f'[{setting.unit}] '}{setting.text}"
        lines.append(f"{line[: columns - 4]} ..." if len(line) > columns else line.rstrip())
    return "\n".join(lines)
