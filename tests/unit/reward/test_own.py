"""Rewards of one's own: the contract, and several weighed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.rl import RewardConfig, WeighedReward
from megatron_mimo.reward.own import OwnReward
from megatron_mimo.reward.router import Reward
from megatron_mimo.rl.engine_protocol import ScoringFailed
from megatron_mimo.rl.problem_reward import ProblemReward
from megatron_mimo.rl.problems.problem import Problem
from megatron_mimo.rl.sample import Prompt, Sample

CODE = """
from megatron_mimo.reward.router import RewardFault
def length(problem, response): return len(response) / 10
async def parts(problem, response): return {"reward": 0.5, "solved": True, "polite": 0.25}
def nothing(problem, response): return None
def infinite(problem, response): return float("inf")
def failing(problem, response): raise RewardFault("not now")
def one_argument(problem): return 1
"""
PROBLEM = Problem(id="p", prompt="?", kind="math", answer="4")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return str(path)


def test_numbers_and_mappings(file: str) -> None:
    score = asyncio.run(OwnReward(f"{file}:length")(PROBLEM, "12345"))
    assert (score.reward, score.solved, score.parts) == (0.5, False, {})
    score = asyncio.run(OwnReward(f"{file}:parts")(PROBLEM, "x"))
    assert (score.reward, score.solved, score.parts) == (0.5, True, {"polite": 0.25})


@pytest.mark.parametrize("name", ["nothing", "infinite"])
def test_answers_that_are_no_rewards(file: str, name: str) -> None:
    with pytest.raises(UserError, match="mine.py"):
        asyncio.run(OwnReward(f"{file}:{name}")(PROBLEM, "x"))


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("{}:missing", "no function missing; it has"),
        ("{}:one_argument", "problem, response"),
        ("no.py:f", "no file"),
        ("{}", "FILE.py:FUNCTION"),
    ],
)
def test_functions_that_do_not_fit_are_refused_before_anything_runs(file: str, place: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        OwnReward(place.format(file))


class Router:
    async def reward(self, problem: Any, response: str) -> Reward:
        return Reward(value=1.0, accuracy=1.0, passed=(True, False))


def scored(weights: dict[str, float], tokens: str = "12345", prompt: str = "?") -> Any:
    reward = ProblemReward(Router(), {"p": PROBLEM}, lambda tokens: "".join(map(chr, tokens)), weights)  # type: ignore[arg-type]
    sample = Sample(tokens=list(map(ord, tokens)), rollout_logprobs=[])
    return asyncio.run(reward.score(Prompt(id="p", tokens=tuple(map(ord, prompt))), sample))


def test_several_are_weighed_and_added(file: str) -> None:
    score = scored({"rules": 1.0, f"{file}:length": -0.2, f"{file}:parts": 2.0})
    assert score.reward == pytest.approx(1.0 - 0.1 + 1.0)
    assert score.parts == {"accuracy": 1.0, "tests_passed": 0.5, "length": 0.5, "parts": 0.5, "polite": 0.25}
    assert score.details == {"tests": [True, False]}
    assert score.solved
    alone = scored({f"{file}:length": 1.0})
    assert (alone.reward, alone.solved) == (0.5, False)


def test_a_fault_is_never_scored(file: str) -> None:
    with pytest.raises(ScoringFailed, match="not now"):
        scored({"rules": 1.0, f"{file}:failing": 1.0})


def test_a_prompt_that_ends_in_a_thought_opens_it(file: str) -> None:
    reward = ProblemReward(Router(), {"p": PROBLEM}, lambda tokens: "".join(map(chr, tokens)))  # type: ignore[arg-type]
    sample = Sample(tokens=list(map(ord, "draft")), rollout_logprobs=[])
    assert reward.response(Prompt(id="p", tokens=tuple(map(ord, "? <think>\n"))), sample) == "<think>draft"
    assert reward.response(Prompt(id="p", tokens=tuple(map(ord, "<think></think>"))), sample) == "draft"


def test_settings() -> None:
    assert RewardConfig().weighed == {"rules": 1.0}
    assert RewardConfig(function="a.py:f").weighed == {"a.py:f": 1.0}
    several = [WeighedReward(function="rules"), WeighedReward(function="a.py:f", weight=-0.5)]
    assert RewardConfig(functions=several).weighed == {"rules": 1.0, "a.py:f": -0.5}
    with pytest.raises(ConfigError, match="functions"):
        RewardConfig(function="a.py:f", functions=several)
    with pytest.raises(ConfigError, match="twice"):
        RewardConfig(functions=[*several, WeighedReward(function="rules")])
    with pytest.raises(ConfigError, match="weight"):
        WeighedReward(function="rules", weight=0.0)
