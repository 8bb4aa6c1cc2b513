"""A folder that is written for minutes: absent or complete under its final name, resumable after a kill.

Everything goes to `.NAME.partial/` beside the destination, which is renamed at the end. A file is first written as
`FILE.tmp`, forced to the disk, renamed, and then entered in `conversion.json` with what was converted (`source`); a
later run over the same source keeps the files entered there.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.convert.page_cache import force_to_disk
from megatron_mimo.platform.files import write_text

RECORD = "conversion.json"


class Destination:
    """The unfinished folder: `folder` is where to write, `finished` tells the facts of files that are complete."""

    def __init__(self, folder: Path, source: dict[str, Any] | None) -> None:
        """Keep what an earlier run over the same `source` finished; without a source, or another one, start anew."""
        self.folder = folder
        self._source = source
        self._files: dict[str, Any] = _read_record(folder, source)
        for path in folder.iterdir():
            if path.name not in {*self._files, RECORD}:
                path.unlink()

    def finished(self, name: str) -> dict[str, Any] | None:
        """The facts given with a file that an earlier run finished, or None where it must be written."""
        return self._files.get(name)

    @contextmanager
    def file(self, name: str, facts: dict[str, Any]) -> Iterator[Path]:
        """A path to write to; when the block ends well it is on the disk as `name`, entered with `facts`.

        The block may add to `facts`.
        """
        temporary = self.folder / (name + ".tmp")
        yield temporary
        force_to_disk(temporary)
        os.replace(temporary, self.folder / name)
        self._files[name] = facts | {"bytes": (self.folder / name).stat().st_size}
        _write_record(self.folder, {"source": self._source, "files": self._files})


@contextmanager
def new_folder(destination: Path, source: dict[str, Any] | None = None, needed_bytes: int = 0) -> Iterator[Destination]:
    """A folder that becomes `destination` when the block ends well.

    An error in the block removes it; an interrupt or a kill leaves it for the next run, if `source` identifies what is
    converted. Raises UserError where `destination` exists, where another process is writing it, where the disk has
    less than `needed_bytes` free, and for every failed write.
    """
    check_absent(destination)
    folder = destination.with_name(f".{destination.name}.partial")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _check_room(destination, folder, needed_bytes)
        folder.mkdir(exist_ok=True)
        with _sole_writer(folder, destination):
            try:
                yield Destination(folder, source)
                _publish(folder, destination)
            except BaseException as error:
                if source is None or isinstance(error, Exception):
                    shutil.rmtree(folder, ignore_errors=True)
                raise
    except OSError as error:
        raise UserError(f"cannot write {destination}: {error.strerror or error}; nothing was left behind") from error


def check_absent(destination: Path) -> None:
    """Raise UserError where something exists at `destination`."""
    if destination.exists() or destination.is_symlink():
        raise UserError(f"{destination} exists and is not overwritten; choose another place or remove it first")


@contextmanager
def _sole_writer(folder: Path, destination: Path) -> Iterator[None]:
    """Hold a lock on the folder; the system releases it when the process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another conversion is writing {destination}; wait for it or choose another place"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _check_room(destination: Path, folder: Path, needed_bytes: int) -> None:
    present = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
    missing, free = needed_bytes - present, shutil.disk_usage(destination.parent).free
    if missing > free:
        raise UserError(
            f"no room for {destination}: it needs {missing / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free;"
            " free some space or choose another place"
        )


def _publish(folder: Path, destination: Path) -> None:
    (folder / RECORD).unlink(missing_ok=True)
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    check_absent(destination)
    os.rename(folder, destination)
    force_to_disk(destination.parent)


def _read_record(folder: Path, source: dict[str, Any] | None) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    if source is None or record["source"] != source:
        return {}
    files = record["files"]
    return {name: facts for name, facts in files.items() if _size(folder / name) == facts["bytes"]}


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    write_text(folder / RECORD, json.dumps(record))
