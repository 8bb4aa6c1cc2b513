"""The processes that write a checkpoint's files: one that is killed is an error at once, not a wait without an end.

megatron-core starts a process per file and waits until each has reported, which one that the system kills, where
memory runs out, never does. Here each has a pipe to the process that waits, and the end of a pipe without a report is
its death.
"""

import multiprocessing
import multiprocessing.connection
import signal
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from megatron.core.dist_checkpointing.strategies.filesystem_async import FileSystemWriterAsync

from megatron_mimo.training.checkpoint_files import file_entry, note_entries


class WriterKilled(OSError):
    """A process that wrote a file ended before it had reported."""


def with_watched_writers(request: AsyncRequest) -> AsyncRequest:
    """The request with `write_files` in place of megatron-core's function, where this rank has something to write."""
    if request.async_fn is None:
        return request
    return request._replace(async_fn=partial(write_files, request.async_fn.args[0]))


def write_files(transforms: list[Any], rank: int, buckets: list[Any], results: Any) -> None:
    """Write each bucket (file name, storage key, data) in a process of its own, which hashes its file as well.

    The arguments are those of megatron-core's `write_preloaded_data_multiproc`: `results` is a queue that gets what was
    written, or what went wrong.
    """
    writers = [Writer(transforms, index, bucket) for index, bucket in enumerate(buckets)]
    try:
        reports = [writer.report() for writer in writers]
        answer: Any = {index: found for index, found, _ in reports}
        # Hashes that cannot be noted are made again when the checkpoint is completed.
        with suppress(OSError):
            folder = writers[0].path.parent
            note_entries(folder, rank, {w.path.name: entry for w, (*_, entry) in zip(writers, reports, strict=True)})
    except Exception as error:
        for writer in writers:
            writer.process.kill()
        answer = error
    results.put(answer)


class Writer:
    """The process that writes one file."""

    def __init__(self, transforms: list[Any], index: int, bucket: Any) -> None:
        """Start it. It is forked: the data are not copied."""
        self.path = Path(bucket[0])
        self._reports, reported = multiprocessing.Pipe(duplex=False)
        fork = multiprocessing.get_context("fork")
        self.process: BaseProcess = fork.Process(target=_write, args=(transforms, index, bucket, reported))
        self.process.start()
        reported.close()  # so that the process has the only one: the pipe ends with it

    def report(self) -> tuple[int, Any, dict[str, Any]]:
        """Wait for it: its index, what it wrote, and the entry of its file. Raises what it raised, or WriterKilled."""
        try:
            index, found, entry = self._reports.recv()
        except EOFError:
            self.process.join()
            raise WriterKilled(f"the process that wrote {self.path} {_end(self.process.exitcode)}") from None
        self.process.join()
        if isinstance(found, Exception):
            raise found
        return index, found, entry


def _write(transforms: list[Any], index: int, bucket: Any, reported: Connection) -> None:
    """In the process: megatron-core's writing of one file, with a list in place of its queues."""
    results: Any = _Results()
    FileSystemWriterAsync.write_preloaded_data(transforms, index, bucket, results, results, use_fsync=True)
    _, found = results.put_in[0]
    reported.send((index, found, {} if isinstance(found, Exception) else file_entry(Path(bucket[0]))))


class _Results:
    """What is left of two queues: that of the results, and that which counts the processes that are through."""

    def __init__(self) -> None:
        self.put_in: list[Any] = []

    def put(self, result: Any) -> None:
        self.put_in.append(result)

    def get(self) -> None: ...

    def task_done(self) -> None: ...


def _end(code: int | None) -> str:
    """How a process ended, and what that mostly means."""
    if code == -signal.SIGKILL:
        return "was killed (signal 9), which the system does where memory runs out"
    return f"ended with exit code {code} before it had reported"
