"""Text files, plain or compressed; files that are whole or absent; their hashes."""

import gzip
import hashlib
import io
import json
import os
from pathlib import Path
from typing import IO, Any

import zstandard


def open_text(path: str | Path, errors: str = "strict") -> IO[str]:
    """Open UTF-8 text to read, decompressed by its ending `.gz` or `.zst`; a byte order mark is left out."""
    path = Path(path)
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors=errors)
    if path.suffix == ".zst":
        return io.TextIOWrapper(zstandard.open(path, "rb"), encoding="utf-8-sig", errors=errors)
    return path.open(encoding="utf-8-sig", errors=errors)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write UTF-8 text to the disk itself under a temporary name, then rename it; `errors` as in `str.encode`."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", errors=errors) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON the same way."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
