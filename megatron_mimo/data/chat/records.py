"""Records of a chat data file, one at a time, each with its place."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

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
    try:
        with open_text(path, errors="surrogateescape") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}:{number}", _parse(line)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"cannot read {path}: {error}; is it whole, and what its ending says?") from error


def _parse(line: str) -> Any:
    try:
        line.encode()  # a byte that is not UTF-8 was read as half of a surrogate pair
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
