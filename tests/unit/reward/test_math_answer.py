"""Mathematics reward: boxed answers only, in the right order, within a time limit, whatever a worker does."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

pytest.importorskip("math_verify")

from megatron_mimo.reward import math_answer
from megatron_mimo.reward.math_answer import MathVerifier, last_boxed


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(num_workers=1, limit_seconds=5) as verifier:
        yield verifier


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"so \boxed{1} or \boxed{2}", r"\boxed{2}"),
        (r"\boxed{\frac{1}{2}} done", r"\boxed{\frac{1}{2}}"),
        (r"\boxed{1} and \boxed{2", r"\boxed{1}"),
        (r"\boxed{\{1, 2\}}", r"\boxed{\{1, 2\}}"),
        (r"\fbox{3}", r"\fbox{3}"),
        ("42", None),
        ("", None),
    ],
)
def test_last_boxed(text: str, boxed: str | None) -> None:
    assert last_boxed(text) == boxed


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


def test_time_limit_and_recovery() -> None:
    with MathVerifier(num_workers=1, limit_seconds=2) as verifier:
        assert verifier.reward_now(r"\boxed{1}", "1") == 1.0
        assert verifier.reward_now(r"\boxed{9^{9^{9^{9}}}+x}", "x+9^{9^{9^{8}}}") == 0.0
        assert verifier.reward_now(r"\boxed{1}", "1") == 1.0


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
