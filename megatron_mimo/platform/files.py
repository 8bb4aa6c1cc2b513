"""Files that are whole or absent, and their hashes."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


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
