"""Records of a chat data file, one at a time, each with its place."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.platform.files import open_text

Record = tuple[str, Any]
"""`FILE:LINE` and the parsed JSON; the exception in its place where it could not be parsed."""


def read_records(path: Path) -> Iterator[Record]:
    """Every record of JSON lines (also .gz, .zst) or of one JSON list; raises UserError without the file."""
    if not path.is_file():
        raise UserError(f"data.sources: there is no file {path}")
    if path.suffix == ".json":
        yield from _json_list(path)
        return
    with open_text(path, errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{path}:{number}", _parse(line)


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        return error


def _json_list(path: Path) -> Iterator[Record]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); for one record a line, call it .jsonl") from error
    if not isinstance(records, list):
        raise UserError(f"{path} must hold a list of records; for one record a line, call it .jsonl")
    yield from ((f"{path}:{number}", record) for number, record in enumerate(records, start=1))
