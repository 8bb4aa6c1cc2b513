"""Input files, local or in an object store: listed once, shared out over tasks by size, opened for reading."""

import glob
import heapq
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.pipeline.decompression import decompressed_lines

WILDCARDS = "*?["


@dataclass(frozen=True)
class InputFile:
    """One file of a reader."""

    path: str
    name: str
    """Its path below the pattern's fixed part: the first half of its documents' ids."""
    size_bytes: int
    """0 where it is not known."""


def list_files(patterns: Sequence[str], storage_options: dict[str, Any] | None = None) -> list[InputFile]:
    """Every file that matches, once, in order of path; raises UserError for a pattern without a file."""
    found: dict[str, InputFile] = {}
    for pattern in patterns:
        matches = list(_matches(pattern, storage_options or {}))
        if not matches:
            raise UserError(f"no file matches {pattern!r}: correct the reader's files")
        found |= {file.path: file for file in matches}
    files = [found[path] for path in sorted(found)]
    if len({file.name for file in files}) < len(files):
        files = [InputFile(file.path, file.path, file.size_bytes) for file in files]
    return files


def listed_files(paths_file: str, prefix: str) -> list[InputFile]:
    """The files that a text file (also .gz, .zst) names, one a line, behind `prefix`; their sizes stay unknown."""
    with open_file(paths_file) as stream:
        lines = [line.decode().strip() for _, line in decompressed_lines(stream, max_bytes=1 << 16) if line]
    if not any(lines):
        raise UserError(f"{paths_file} names no file")
    return [InputFile(f"{prefix}{line}", line, 0) for line in lines if line]


def share_out(files: Sequence[InputFile], num_tasks: int) -> list[list[InputFile]]:
    """The files of each task, in order of path: the largest first to whoever has least, so that tasks end together.

    A pure function of its arguments (longest-processing-time rule: at most 4/3 of the best possible longest task).
    """
    shares: list[list[int]] = [[] for _ in range(num_tasks)]
    loads = [(0, 0, task) for task in range(num_tasks)]
    for index in sorted(range(len(files)), key=lambda index: (-files[index].size_bytes, index)):
        size, number, task = heapq.heappop(loads)
        shares[task].append(index)
        heapq.heappush(loads, (size + files[index].size_bytes, number + 1, task))
    return [[files[index] for index in sorted(share)] for share in shares]


def is_remote(path: str) -> bool:
    """True for `s3://...` and everything else that fsspec opens."""
    return "://" in path


def open_file(path: str, storage_options: dict[str, Any] | None = None) -> BinaryIO:
    """A seekable stream of bytes."""
    if not is_remote(path):
        return open(path, "rb")
    system, inner = _file_system(path, storage_options or {})
    return system.open(inner, "rb")


def _matches(pattern: str, storage_options: dict[str, Any]) -> Iterator[InputFile]:
    if not is_remote(pattern):
        for path in glob.glob(pattern, recursive=True):
            if os.path.isfile(path):
                yield InputFile(path, path[_fixed_part(pattern) :], os.path.getsize(path))
        return
    system, inner = _file_system(pattern, storage_options)
    for path, info in system.glob(inner, detail=True).items():
        if info["type"] == "file":
            name = path[_fixed_part(system._strip_protocol(inner)) :]
            yield InputFile(system.unstrip_protocol(path), name, info["size"] or 0)


def _fixed_part(pattern: str) -> int:
    """Length of the pattern's folder before its first wildcard."""
    first = min((pattern.find(sign) for sign in WILDCARDS if sign in pattern), default=len(pattern))
    return pattern.rfind("/", 0, first) + 1


def _file_system(path: str, storage_options: dict[str, Any]) -> tuple[Any, str]:
    try:
        import fsspec

        return fsspec.core.url_to_fs(path, **storage_options)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            "reader.files", path, f"cannot be opened ({error}): install fsspec and its backend"
        ) from error


def local_folder(path: str | Path) -> Path:
    """The folder itself; raises UserError for one in an object store, where renaming is not atomic."""
    if is_remote(str(path)):
        raise ConfigError("output_dir", str(path), "shards are written to a (shared) file system: give a local path")
    return Path(path)
