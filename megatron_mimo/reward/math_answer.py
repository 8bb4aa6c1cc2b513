"""Mathematics reward: the last boxed answer compared with the expected one, in worker processes.

What is right stands in reward/answers; here are the processes. SymPy can take for ever and nothing interrupts it for
certain, so each comparison runs in a process that is killed once it has used its processor time. A busy machine takes
no processor time and fails nobody. What was not decided is a fault, counted and never scored.
"""

import asyncio
import contextlib
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

from megatron_mimo.config import UserError
from megatron_mimo.platform.worker_process import StartFailed, StartTimedOut, WorkerDied, WorkerProcess
from megatron_mimo.reward.answers.compare import Comparison, compare
from megatron_mimo.reward.boxed import boxed_answer, last_boxed

__all__ = ["MathFault", "MathVerifier", "last_boxed", "verify_boxed"]

MAX_ANSWER_CHARACTERS = 4000
MAX_ATTEMPTS = 2
FAULTS = {
    Comparison.UNREADABLE_GOLD: "the expected answer is no formula that the verifier reads",
    Comparison.UNDECIDED: "both answers have numbers that cannot be written down",
}


class MathFault(Exception):
    """The verifier could not decide: judge again or drop the sample, never score it."""


def verify_boxed(response: str, answer: str) -> bool:
    """Whether the response's last boxed answer equals `answer` (LaTeX or plain). May hang: for worker processes."""
    boxed = boxed_answer(response)
    return boxed is not None and compare_boxed((boxed, answer)) is Comparison.RIGHT


def compare_boxed(question: tuple[str, str]) -> Comparison:
    """`compare` of (answer, expected answer, perhaps boxed); what SymPy cannot digest is no right answer."""
    answer, gold = question
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return Comparison.UNREADABLE_ANSWER
    inside = boxed_answer(gold)
    try:
        return compare(answer, gold if inside is None else inside)
    except (MemoryError, RecursionError, Exception):
        return Comparison.UNREADABLE_ANSWER if gold_is_readable(gold) else Comparison.UNREADABLE_GOLD


def gold_is_readable(gold: str) -> bool:
    """Whether the expected answer equals itself written another way: then an exception was the answer's doing."""
    with contextlib.suppress(Exception):
        return compare(rf"\text{{ }} {gold} ", gold) is Comparison.RIGHT
    return False


def prepare() -> Callable[[tuple[str, str]], Comparison]:
    """What a worker process answers with."""
    import latex2sympy2_extended  # noqa: F401  the import takes seconds and must not count as the first answer's time
    import math_verify  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    sys.set_int_max_str_digits(0)
    return compare_boxed


class Worker(WorkerProcess):
    """A process that compares answers, replaced when it hangs or dies."""

    def __init__(self) -> None:
        super().__init__(prepare)

    def ask(self, answer: str, gold: str, limit_seconds: float) -> Comparison | None:
        """The comparison; None after the limit of processor time. Raises MathFault if the process dies."""
        try:
            return self.answer((answer, gold), limit_seconds, of_processor=True)
        except (WorkerDied, StartTimedOut) as error:
            raise MathFault(f"the verifier: {error}") from error
        except StartFailed as error:
            raise UserError(why_not_started()) from error


def why_not_started() -> str:
    """The package is missing, or the process ended before it was ready, as it does in a script without a guard."""
    if find_spec("math_verify") is None:
        return "math-verify is missing: pip install 'math-verify[antlr4-13-2]'"
    return (
        "the verifier's worker process did not start: a script that uses MathVerifier needs the guard "
        "`if __name__ == '__main__':` around its own work"
    )


class MathVerifier:
    """A pool of workers. `await verifier.reward(response, answer)` gives 1.0 or 0.0; close it at the end."""

    def __init__(self, num_workers: int = 2, limit_seconds: float = 10.0) -> None:
        """limit_seconds: processor time of one comparison; one that takes more is a fault, not a wrong answer."""
        self._limit_seconds = limit_seconds
        self._threads = ThreadPoolExecutor(num_workers, thread_name_prefix="math-verify")
        self._local = threading.local()
        self._workers: list[Worker] = []
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        """Comparisons by outcome since the start, `no_answer` and `time_out` among them; for reports."""

    async def reward(self, response: str, answer: str) -> float:
        """1.0 if the last boxed answer equals `answer`, else 0.0. Raises MathFault where that was not decided."""
        return await asyncio.wrap_future(self._threads.submit(self._reward, response, answer))

    def reward_now(self, response: str, answer: str) -> float:
        """The same, blocking."""
        return self._threads.submit(self._reward, response, answer).result()

    def _reward(self, response: str, answer: str) -> float:
        # Without a boxed answer there is nothing to compare, and only the box need travel.
        boxed = boxed_answer(response)
        if boxed is None:
            self._count("no_answer")
            return 0.0
        outcome = self._ask(boxed, answer)
        self._count("time_out" if outcome is None else outcome)
        if outcome is None:
            raise MathFault(f"no comparison within {self._limit_seconds} s of processor time")
        if outcome in FAULTS:
            raise MathFault(f"{FAULTS[outcome]}: {answer[:200]!r}")
        return float(outcome is Comparison.RIGHT)

    def _ask(self, boxed: str, answer: str) -> Comparison | None:
        for attempt in range(MAX_ATTEMPTS):
            with contextlib.suppress(MathFault) if attempt + 1 < MAX_ATTEMPTS else contextlib.nullcontext():
                return self._worker().ask(boxed, answer, self._limit_seconds)
        raise AssertionError

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.counts[str(outcome)] += 1

    def _worker(self) -> Worker:
        if not hasattr(self._local, "worker"):
            self._local.worker = Worker()
            self._workers.append(self._local.worker)
        return self._local.worker

    def close(self) -> None:
        """Wait for what is running and end the workers."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> "MathVerifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
