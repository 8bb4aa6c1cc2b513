"""JSON schema of the configurations, for editors.

    megatron-mimo schema pretrain                 print the schema of the files that `megatron-mimo pretrain` reads
    megatron-mimo schema --output schemas         write one file for each command that reads a configuration

An editor with a YAML language server completes keys and shows their texts in a file that begins with
# yaml-language-server: $schema=schemas/pretrain.schema.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

from megatron_mimo.cli.command import exit_code, parser_of
from megatron_mimo.cli.commands import COMMANDS

READERS = tuple(name for name, command in COMMANDS.items() if command.config)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = parser_of(__doc__)
    found.add_argument("command", nargs="?", choices=READERS, help="command whose configuration is meant")
    found.add_argument("--output", type=Path, metavar="FOLDER", help="write the schemas of all commands there")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print or write; returns the exit code."""
    options = parser().parse_args(arguments)
    if (options.command is None) == (options.output is None):
        parser().error("name a command, or a folder with --output")
    return exit_code(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Print one schema, or write them all."""
    if options.command:
        print(text_of(options.command))
        return
    from megatron_mimo.platform.files import write_text

    options.output.mkdir(parents=True, exist_ok=True)
    for name in READERS:
        path = options.output / f"{name}.schema.json"
        write_text(path, text_of(name) + "\n")
        print(path)


def text_of(command: str) -> str:
    """The schema of a command's configuration as JSON."""
    from megatron_mimo.cli.key_help import config_of
    from megatron_mimo.config.schema import json_schema

    schema: dict[str, Any] = json_schema(config_of(command), f"CONFIG.yaml of megatron-mimo {command}")
    return json.dumps(schema, indent=1, ensure_ascii=False)
