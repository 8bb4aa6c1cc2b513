"""The rewards of a run behind the scheduler's protocol: response tokens -> text -> Math-Verify or judge."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from megatron_mimo.config.rl import RewardConfig
from megatron_mimo.judge.opening import open_judge
from megatron_mimo.reward.math_answer import MathVerifier
from megatron_mimo.reward.router import Reward, RewardFault, RewardRouter
from megatron_mimo.rl.engine_protocol import Score, ScoringFailed
from megatron_mimo.rl.problems.problem import Problem
from megatron_mimo.rl.sample import Prompt, Sample


class ProblemReward:
    """A RewardFunction: finds the problem by the prompt's id, asks the router."""

    def __init__(
        self, router: RewardRouter, problems: Mapping[str, Problem], decode: Callable[[Iterable[int]], str]
    ) -> None:
        self._router, self._problems, self._decode = router, problems, decode

    async def score(self, prompt: Prompt, sample: Sample) -> Score:
        """Reward of a response. Raises ScoringFailed when judge or verifier failed."""
        problem = self._problems[prompt.id]
        try:
            reward = await self._router.reward(problem.for_reward(), self._decode(sample.tokens))
        except RewardFault as error:
            raise ScoringFailed(str(error)) from error
        return Score(reward=reward.value, solved=reward.accuracy == 1.0, parts=reward_parts(reward))


def reward_parts(reward: Reward) -> dict[str, float]:
    """What the record of a sample keeps of its reward."""
    parts = {"accuracy": reward.accuracy}
    if reward.language_penalty:
        parts["language_penalty"] = reward.language_penalty
    if reward.passed:
        parts["tests_passed"] = sum(reward.passed) / len(reward.passed)
    return parts


@asynccontextmanager
async def open_rewards(
    config: RewardConfig, problems: Mapping[str, Problem], decode: Callable[[Iterable[int]], str]
) -> AsyncIterator[ProblemReward]:
    """Verifier processes and judge of a run, closed at the end. Raises SandboxUnavailable where programs would have to
    run without a sandbox."""
    async with AsyncExitStack() as stack:
        math = stack.enter_context(MathVerifier(config.math_workers, config.math_limit_seconds))
        judge = None
        if any(problem.kind == "code" for problem in problems.values()):
            judge = await stack.enter_async_context(open_judge(config.judge_urls, config.local_judge))
        router = RewardRouter(math, judge, scheme=config.scheme, language_penalty=config.language_penalty)
        yield ProblemReward(router, problems, decode)
