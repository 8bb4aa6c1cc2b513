"""The rewards of a run behind the scheduler's protocol: response tokens -> text -> rules, or your own functions."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from megatron_mimo.config.rl import RULES, RewardConfig
from megatron_mimo.judge.opening import open_judge
from megatron_mimo.reward.final_answer import CLOSES, OPENS
from megatron_mimo.reward.math_answer import MathVerifier
from megatron_mimo.reward.own import OwnReward
from megatron_mimo.reward.router import Reward, RewardFault, RewardRouter
from megatron_mimo.rl.engine_protocol import Score, ScoringFailed
from megatron_mimo.rl.problems.problem import Problem
from megatron_mimo.rl.sample import Prompt, Sample

ALONE = {RULES: 1.0}


class ProblemReward:
    """A RewardFunction: finds the problem by the prompt's id, asks the rules and the functions that settings name."""

    def __init__(
        self,
        router: RewardRouter,
        problems: Mapping[str, Problem],
        decode: Callable[[Iterable[int]], str],
        weights: Mapping[str, float] = ALONE,
        counts: Counter[str] | None = None,
    ) -> None:
        """weights: of `rules` and of `FILE.py:NAME` functions; counts: of the verifier, for the report. Raises
        ConfigError for a function that cannot be loaded."""
        self._router, self._problems, self._decode, self._weights = router, problems, decode, weights
        self._own = {name: OwnReward(name) for name in weights if name != RULES}
        self.counts: Counter[str] = Counter() if counts is None else counts
        """Answers by what the mathematics verifier said of them, faults included."""

    async def score(self, prompt: Prompt, sample: Sample) -> Score:
        """Reward of a response. Raises ScoringFailed when judge or verifier failed."""
        problem, response = self._problems[prompt.id], self.response(prompt, sample)
        total, parts, details, solved = 0.0, {}, {}, None
        try:
            for name, weight in self._weights.items():
                if name == RULES:
                    reward = await self._router.reward(problem.for_reward(), response)
                    value, more, accurate = reward.value, reward_parts(reward), reward.accuracy == 1.0
                    details = reward_details(reward)
                else:
                    own = await self._own[name](problem, response)
                    value, more, accurate = own.reward, {self._own[name].name: own.reward, **own.parts}, own.solved
                total += weight * value
                parts |= more
                # The rules decide what is solved, where they are asked; else the first function does.
                solved = accurate if name == RULES or solved is None else solved
        except RewardFault as error:
            raise ScoringFailed(str(error)) from error
        return Score(reward=total, solved=bool(solved), parts=parts, details=details)

    def response(self, prompt: Prompt, sample: Sample) -> str:
        """The response's text; with the mark of an open thought where the prompt ends inside of one."""
        text = self._decode(sample.tokens)
        ending = self._decode(prompt.tokens[-16:]) if prompt.tokens else ""
        in_thought = ending.rfind(OPENS) > ending.rfind(CLOSES)
        return OPENS + text if in_thought else text


def reward_parts(reward: Reward) -> dict[str, float]:
    """What the record of a sample keeps of its reward."""
    parts = {"accuracy": reward.accuracy}
    if reward.language_penalty:
        parts["language_penalty"] = reward.language_penalty
    if reward.passed:
        parts["tests_passed"] = sum(reward.passed) / len(reward.passed)
    return parts


def reward_details(reward: Reward) -> dict[str, Any]:
    """For people who read the rollouts: the verdict, and which tests passed."""
    details: dict[str, Any] = {}
    if reward.verdict is not None:
        details["verdict"] = str(reward.verdict)
    if reward.passed:
        details["tests"] = [bool(one) for one in reward.passed]
    return details


@asynccontextmanager
async def open_rewards(
    config: RewardConfig, problems: Mapping[str, Problem], decode: Callable[[Iterable[int]], str]
) -> AsyncIterator[ProblemReward]:
    """Verifier processes and judge of a run, closed at the end. Raises SandboxUnavailable where programs would have to
    run without a sandbox, ConfigError for a function of yours that cannot be loaded."""
    async with AsyncExitStack() as stack:
        math = stack.enter_context(MathVerifier(config.num_math_workers, config.math_timeout_seconds))
        judge = None
        if RULES in config.weighed and any(problem.kind == "code" for problem in problems.values()):
            judge = await stack.enter_async_context(open_judge(config.judge_urls, config.local_judge))
        router = RewardRouter(math, judge, scheme=config.scheme, language_penalty=config.language_penalty)
        yield ProblemReward(router, problems, decode, config.weighed, math.counts)
