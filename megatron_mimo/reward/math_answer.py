"""Mathematics reward: Math-Verify on the last boxed answer, in worker processes.

Only `\\boxed{...}` counts: with the default extraction any stray number of a failed answer can match. Math-Verify's own
time limits use signals, which need a main thread and cannot interrupt every SymPy routine, so each comparison runs in
a worker process that is killed when it takes too long.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from megatron_mimo.config import UserError
from megatron_mimo.platform.worker_process import StartFailed, StartTimedOut, WorkerDied, WorkerProcess

MAX_ANSWER_CHARACTERS = 4000
MAX_ATTEMPTS = 2


class MathFault(Exception):
    """The verifier itself failed: judge again or drop the sample, never score it."""


def last_boxed(text: str) -> str | None:
    """The last complete `\\boxed{...}` or `\\fbox{...}` with its braces balanced, or None."""
    starts = sorted((place for command in (r"\boxed{", r"\fbox{") for place in find_all(text, command)), reverse=True)
    for start in starts:
        end = closing_brace(text, text.index("{", start))
        if end is not None:
            return text[start : end + 1]
    return None


def find_all(text: str, part: str) -> list[int]:
    places, place = [], text.find(part)
    while place >= 0:
        places.append(place)
        place = text.find(part, place + 1)
    return places


def closing_brace(text: str, opening: int) -> int | None:
    depth, place = 0, opening
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == "{":
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if depth == 0:
                return place
        place += 1
    return None


def verify_boxed(response: str, answer: str) -> bool:
    """Whether the response's last boxed answer equals `answer` (LaTeX or plain). May hang: for worker processes."""
    from math_verify import LatexExtractionConfig, parse, verify

    boxed = last_boxed(response)
    if boxed is None or len(boxed) > MAX_ANSWER_CHARACTERS:
        return False
    only_boxed = [LatexExtractionConfig(boxed_match_priority=0)]
    gold_text = answer if last_boxed(answer) else f"\\boxed{{{answer}}}"
    # The worker's owner keeps the time; Math-Verify's alarms are off.
    gold = parse(gold_text, extraction_config=only_boxed, parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    predicted = parse(boxed, extraction_config=only_boxed, parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    # The order matters: verify(gold, predicted) is not symmetric.
    return bool(gold and predicted) and bool(verify(gold, predicted, timeout_seconds=None))


def prepare() -> Callable[[tuple[str, str]], bool]:
    """What a worker process answers with."""
    import math_verify  # noqa: F401  the import takes seconds and must not count as the first answer's time

    # It warns in every comparison that the time limits are off, which this module keeps itself.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return is_right


def is_right(question: tuple[str, str]) -> bool:
    """`verify_boxed` of a pair; what SymPy cannot digest is no right answer."""
    try:
        return verify_boxed(*question)
    except Exception:
        return False


class Worker(WorkerProcess):
    """A process that compares answers, replaced when it hangs or dies."""

    def __init__(self) -> None:
        super().__init__(prepare)

    def ask(self, response: str, answer: str, limit_seconds: float) -> bool | None:
        """The comparison; None after the time limit. Raises MathFault if the process dies."""
        try:
            return self.answer((response, answer), limit_seconds)
        except (WorkerDied, StartTimedOut) as error:
            raise MathFault(f"the verifier: {error}") from error
        except StartFailed as error:
            raise UserError("math-verify is missing: pip install 'math-verify[antlr4_13_2]'") from error


class MathVerifier:
    """A pool of workers. `await verifier.reward(response, answer)` gives 1.0 or 0.0; close it at the end."""

    def __init__(self, num_workers: int = 2, limit_seconds: float = 10.0) -> None:
        """limit_seconds: of one comparison; an answer that takes longer counts as wrong."""
        self._limit_seconds = limit_seconds
        self._threads = ThreadPoolExecutor(num_workers, thread_name_prefix="math-verify")
        self._local = threading.local()
        self._workers: list[Worker] = []

    async def reward(self, response: str, answer: str) -> float:
        """1.0 if the last boxed answer equals `answer`, else 0.0. Raises MathFault if no worker survives it."""
        return await asyncio.wrap_future(self._threads.submit(self._reward, response, answer))

    def reward_now(self, response: str, answer: str) -> float:
        """The same, blocking."""
        return self._threads.submit(self._reward, response, answer).result()

    def _reward(self, response: str, answer: str) -> float:
        # Without a boxed answer there is nothing to compare, and only the box need travel.
        boxed = last_boxed(response)
        if boxed is None:
            return 0.0
        for attempt in range(MAX_ATTEMPTS):
            with contextlib.suppress(MathFault) if attempt + 1 < MAX_ATTEMPTS else contextlib.nullcontext():
                return float(bool(self._worker().ask(boxed, answer, self._limit_seconds)))
        raise AssertionError

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
