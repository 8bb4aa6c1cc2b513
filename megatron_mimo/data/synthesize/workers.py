"""Verification in worker processes: a verifier that hangs or crashes costs one process, not the run."""

import multiprocessing
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Self

from megatron_mimo.data.synthesize.queries import Query
from megatron_mimo.data.synthesize.verify import Verdict, Verifier

_CONTEXT = multiprocessing.get_context("spawn")
START_SECONDS = 120.0
"""A new process imports the verifier's libraries before it can answer."""
TIMED_OUT = Verdict(False, "verifier timed out")
CRASHED = Verdict(False, "verifier crashed", undecided=True)


def _serve(connection: Connection, verifiers: dict[str, Verifier]) -> None:
    connection.send("ready")
    while True:
        try:
            query, response = connection.recv()
        except EOFError:
            return
        try:
            verdict = verifiers[query.kind].verify(query, response)
        except Exception as error:
            verdict = Verdict(False, f"verifier failed: {type(error).__name__}", undecided=True)
        connection.send(verdict)


class _Worker:
    """One process, started when first needed and again after it had to be killed."""

    def __init__(self, verifiers: dict[str, Verifier]) -> None:
        self._verifiers = verifiers
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def verify(self, query: Query, response: str, timeout_seconds: float) -> Verdict:
        connection = self._connection or self._start()
        try:
            connection.send((query, response))
            if connection.poll(timeout_seconds):
                return connection.recv()
        except (EOFError, OSError):
            self.stop()
            return CRASHED
        self.stop()
        return TIMED_OUT

    def _start(self) -> Connection:
        self._connection, far_end = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(far_end, self._verifiers), daemon=True)
        self._process.start()
        far_end.close()
        if not self._connection.poll(START_SECONDS) or self._connection.recv() != "ready":
            self.stop()
            raise RuntimeError(f"a verification process did not start within {START_SECONDS:.0f} s")
        return self._connection

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


class VerifierPool:
    """`with VerifierPool(verifiers, num_workers, timeout_seconds) as pool: pool.verify_all(pairs)`."""

    def __init__(self, verifiers: dict[str, Verifier], num_workers: int, timeout_seconds: float) -> None:
        self._timeout_seconds, self._num_workers = timeout_seconds, num_workers
        self._workers = [_Worker(verifiers) for _ in range(num_workers)]
        self._free = list(self._workers)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def verify_all(self, pairs: Iterable[tuple[Query, str]]) -> Iterator[Verdict]:
        """One verdict a pair, in order; a bounded number of pairs is in work at a time."""
        pairs = iter(pairs)
        with ThreadPoolExecutor(self._num_workers) as threads:
            while batch := list(islice(pairs, 16 * self._num_workers)):
                yield from threads.map(self._verify, batch)

    def _verify(self, pair: tuple[Query, str]) -> Verdict:
        with self._lock:
            worker = self._free.pop()
        try:
            return worker.verify(*pair, self._timeout_seconds)
        finally:
            with self._lock:
                self._free.append(worker)
