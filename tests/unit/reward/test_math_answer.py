"""Mathematics reward: boxed answers only, in the right order, within a time limit, whatever a worker does."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("math_verify")

from megatron_mimo.reward import math_answer
from megatron_mimo.reward.math_answer import MathVerifier


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(num_workers=1, limit_seconds=5) as verifier:
        yield verifier


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        (r"\boxed{42}", "42", True),
        (r"\boxed{41}", "42", False),
        ("the answer is 42", "42", False),
        (r"42 is near \boxed{}", "42", False),
        (r"\boxed{42}, no, \boxed{43}", "42", False),
        (r"\boxed{41}, no, \boxed{42}", "42", True),
        (r"\boxed{\frac{1}{2}}", "0.5", True),
        (r"\boxed{0.5}", r"\frac{1}{2}", True),
        (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", True),
        (r"\boxed{(1, 2)}", "(1,2)", True),
        (r"\boxed{(2, 1)}", "(1,2)", False),
        (r"\boxed{x+1}", "1+x", True),
        (r"\boxed{\{1, 2\}}", r"\{2, 1\}", True),
        (r"\boxed{1,000}", "1000", True),
        (r"\boxed{\frac{}{}}", "1", False),
        (r"\boxed{" + "9" * 10000 + "}", "1", False),
    ],
)
def test_answers(verifier: MathVerifier, response: str, answer: str, right: bool) -> None:
    assert verifier.reward_now(response, answer) == float(right)


def test_a_fault_is_never_a_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    with MathVerifier(num_workers=1) as verifier:
        with pytest.raises(math_answer.MathFault, match="cannot be written down"):
            verifier.reward_now(r"\boxed{9^{9^{9^{9}}}+x}", "x+9^{9^{9^{8}}}")
        with pytest.raises(math_answer.MathFault, match="expected answer"):
            verifier.reward_now(r"\boxed{5}", r"\frac{1}{")
        assert verifier.reward_now(r"\boxed{1}", "1") == 1.0
        assert verifier.reward_now("no answer", "1") == 0.0
        assert verifier.counts == {"undecided": 1, "unreadable_gold": 1, "right": 1, "no_answer": 1}


def busy(_: tuple[str, str]) -> str:
    while True:
        pass


def naps(question: tuple[str, str]) -> math_answer.Comparison:
    time.sleep(3)
    return math_answer.Comparison.RIGHT


def prepare_busy() -> object:
    return busy


def prepare_naps() -> object:
    return naps


def test_processor_time_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that computes is stopped and counted; one that merely waits, as on a busy machine, is waited for."""
    monkeypatch.setattr(math_answer, "prepare", prepare_naps)
    with MathVerifier(num_workers=1, limit_seconds=0.5) as verifier:
        assert verifier.reward_now(r"\boxed{1}", "1") == 1.0
    monkeypatch.setattr(math_answer, "prepare", prepare_busy)
    with MathVerifier(num_workers=1, limit_seconds=0.5) as verifier:
        with pytest.raises(math_answer.MathFault, match="processor time"):
            verifier.reward_now(r"\boxed{1}", "1")
        assert verifier.counts == {"time_out": 1}


def test_a_killed_worker_is_replaced_and_nothing_is_scored_wrongly() -> None:
    async def both(verifier: MathVerifier) -> list[float]:
        return list(await asyncio.gather(*[verifier.reward(rf"\boxed{{{n}}}", str(n)) for n in range(8)]))

    with MathVerifier(num_workers=1) as verifier:
        assert asyncio.run(both(verifier)) == [1.0] * 8
        process = verifier._workers[0]._process
        assert process is not None and process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        assert asyncio.run(both(verifier)) == [1.0] * 8


def test_a_worker_that_always_dies_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise math_answer.MathFault("dead")

    monkeypatch.setattr(math_answer.Worker, "ask", dies)
    with MathVerifier(num_workers=1) as verifier, pytest.raises(math_answer.MathFault):
        verifier.reward_now(r"\boxed{1}", "1")


def test_a_worker_that_did_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "__name__ == '__main__'" in math_answer.why_not_started()
    monkeypatch.setattr(math_answer, "find_spec", lambda name: None)
    assert "pip install" in math_answer.why_not_started()
