"""Verification in worker processes: a verifier that hangs or crashes costs one process, not the run."""

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Self

from megatron_mimo.data.synthesize.queries import Query
from megatron_mimo.data.synthesize.verify import ResponseVerdict, Verifier
from megatron_mimo.platform.worker_process import WorkerDied, WorkerProcess

TIMED_OUT = ResponseVerdict(False, "verifier timed out")
CRASHED = ResponseVerdict(False, "verifier crashed", undecided=True)


def _judge(verifiers: dict[str, Verifier], pair: tuple[Query, str]) -> ResponseVerdict:
    query, response = pair
    try:
        return verifiers[query.kind].verify(query, response)
    except Exception as error:
        return ResponseVerdict(False, f"verifier failed: {type(error).__name__}", undecided=True)


def _prepare(verifiers: dict[str, Verifier]) -> Callable[[tuple[Query, str]], ResponseVerdict]:
    return functools.partial(_judge, verifiers)


class VerifierPool:
    """`with VerifierPool(verifiers, num_workers, timeout_seconds) as pool: pool.verify_all(pairs)`."""

    def __init__(self, verifiers: dict[str, Verifier], num_workers: int, timeout_seconds: float) -> None:
        self._timeout_seconds, self._num_workers = timeout_seconds, num_workers
        self._workers = [WorkerProcess(functools.partial(_prepare, verifiers)) for _ in range(num_workers)]
        self._free = list(self._workers)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.close()

    def verify_all(self, pairs: Iterable[tuple[Query, str]]) -> Iterator[ResponseVerdict]:
        """One verdict a pair, in order; a bounded number of pairs is in work at a time."""
        pairs = iter(pairs)
        with ThreadPoolExecutor(self._num_workers) as threads:
            while batch := list(islice(pairs, 16 * self._num_workers)):
                yield from threads.map(self._verify, batch)

    def _verify(self, pair: tuple[Query, str]) -> ResponseVerdict:
        with self._lock:
            worker = self._free.pop()
        try:
            return worker.answer(pair, self._timeout_seconds) or TIMED_OUT
        except WorkerDied:
            return CRASHED
        finally:
            with self._lock:
                self._free.append(worker)
