"""Requests: what is refused, the order of tests, and faults that cannot be scored."""

import msgspec
import pytest

from megatron_mimo.config import ConfigError
from megatron_mimo.judge import CallTest, JudgeConfig, JudgeRequest, JudgeResult, Limits, Solution, StdioTest, Verdict
from megatron_mimo.judge import TestResult as Result
from megatron_mimo.judge.bubblewrap import SandboxUnavailable, find_host

TEST = StdioTest(stdin="", stdout="")


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (JudgeRequest(solution=Solution(source=""), tests=[]), "tests"),
        (JudgeRequest(solution=Solution(source=""), tests=[TEST], levels=[0, 1]), "levels"),
        (JudgeRequest(solution=Solution(source=""), tests=[TEST], limits=Limits(cpu_seconds=0)), "limits.cpu_seconds"),
        (
            JudgeRequest(
                solution=Solution(source="", language="cpp"), tests=[CallTest(function="f", arguments=[], expected=1)]
            ),
            "tests",
        ),
    ],
)
def test_nonsense_is_refused(request_: JudgeRequest, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        request_.check()


def test_easier_levels_run_first_and_ties_keep_their_order() -> None:
    request = JudgeRequest(solution=Solution(source=""), tests=[TEST] * 5, levels=[2, 0, 1, 0, 2])
    assert request.order() == [1, 3, 2, 0, 4]


def test_requests_survive_json() -> None:
    tests = [TEST, CallTest(function="f", arguments=[[1, None], "x"], expected={"a": 1.5})]
    request = JudgeRequest(solution=Solution(source="é"), tests=tests, limits=Limits(may_fork=True))
    assert msgspec.json.decode(msgspec.json.encode(request), type=JudgeRequest) == request


def test_verdict_of_a_solution() -> None:
    def of(*verdicts: Verdict) -> Verdict:
        return JudgeResult.of([Result(verdict=verdict) for verdict in verdicts]).verdict

    assert of(Verdict.ACCEPTED, Verdict.ACCEPTED) is Verdict.ACCEPTED
    assert of(Verdict.ACCEPTED, Verdict.TIME_LIMIT, Verdict.WRONG_ANSWER) is Verdict.TIME_LIMIT
    assert of(Verdict.WRONG_ANSWER, Verdict.JUDGE_FAULT) is Verdict.JUDGE_FAULT
    assert of(Verdict.SKIPPED, Verdict.WRONG_ANSWER) is Verdict.WRONG_ANSWER


def test_a_fault_has_no_score() -> None:
    fault = JudgeResult.of([Result(verdict=Verdict.ACCEPTED), Result(verdict=Verdict.JUDGE_FAULT)])
    with pytest.raises(ValueError, match="judge failed"):
        _ = fault.passed


def test_missing_bubblewrap_names_the_package() -> None:
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        find_host(JudgeConfig(bubblewrap="no-such-bwrap"))
    with pytest.raises(ConfigError, match="python_packages"):
        JudgeConfig(python_packages=("/no/such/folder",))
