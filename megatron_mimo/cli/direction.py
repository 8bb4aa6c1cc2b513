"""`export` and `import` take the options of `convert`, and their two folders by place instead of by name."""

import argparse
from pathlib import Path

from megatron_mimo.cli import convert
from megatron_mimo.cli.command import parser_of


def parser_of_direction(name: str, text: str | None, places: tuple[str, str]) -> argparse.ArgumentParser:
    """A parser with every option of `megatron-mimo convert NAME` but the folders, which are the arguments `places`."""
    parser = parser_of(text, parents=[convert.direction_parser(name)])
    for folder in ("--megatron-path", "--hf-path"):
        parser.add_argument(folder, type=Path, help=argparse.SUPPRESS)
    for place in places:
        parser.add_argument(place, type=Path, metavar=place.upper())
    return parser
