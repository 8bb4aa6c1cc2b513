"""The rewards as a verl reward manager: mathematics by Math-Verify, code by test difficulty in the judge."""

import asyncio
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from megatron_mimo.config.load import from_tree
from megatron_mimo.config.rl import RetryConfig, RewardConfig
from megatron_mimo.judge.client import JudgeClient
from megatron_mimo.judge.opening import make_judge
from megatron_mimo.judge.pool import JudgePool
from megatron_mimo.reward.math_answer import MathVerifier
from megatron_mimo.reward.router import Judge, Reward, RewardFault, RewardRouter
from megatron_mimo.rl.verl_plugin.problem_rows import from_ground_truth


class LazyJudge:
    """A judge that starts with the first program, so that mathematics alone needs no sandbox."""

    def __init__(self, settings: RewardConfig) -> None:
        self._settings = settings
        self._judge: JudgeClient | JudgePool | None = None

    async def judge(self, *arguments: Any, **options: Any) -> Any:
        if self._judge is None:
            self._judge = make_judge(self._settings.judge_urls, self._settings.local_judge)
        return await self._judge.judge(*arguments, **options)


def build_router(settings: RewardConfig) -> RewardRouter:
    """The rewards of `settings`; workers and judge start when they are first needed."""
    judge: Judge = LazyJudge(settings)
    return RewardRouter(
        MathVerifier(settings.num_math_workers, settings.math_timeout_seconds),
        judge,
        scheme=settings.scheme,
        language_penalty=settings.language_penalty,
    )


@register("mimo")
class MimoRewardManager(RewardManagerBase):
    """Scores rows of problem_rows.py. Settings: RewardConfig, under `reward.reward_kwargs`.

    `acc` is the accuracy before any penalty; 1 is solved. A fault of judge or verifier is tried again, then raised:
    verl marks the group as failed, and no failure is scored as 0.
    """

    def __init__(self, config: DictConfig, tokenizer: Any, compute_score: Any = None, **_: Any) -> None:
        super().__init__(config, tokenizer, compute_score)
        self.tokenizer: Any = tokenizer
        tree = OmegaConf.to_container(OmegaConf.create(config.reward.get("reward_kwargs") or {}))
        assert isinstance(tree, dict)
        settings = from_tree(RewardConfig, {str(name): value for name, value in tree.items()}, "reward.reward_kwargs")
        self._router, self._retry = build_router(settings), RetryConfig()

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """verl's contract: {"reward_score": float, "reward_extra_info": {"acc": float}} of the last row."""
        item = data[-1]
        responses, mask = item.batch["responses"], item.batch["attention_mask"]
        tokens = responses[: int(mask[-len(responses) :].sum())]
        text = await asyncio.to_thread(self.tokenizer.decode, tokens, skip_special_tokens=True)
        reward = await self._reward(item.non_tensor_batch["reward_model"]["ground_truth"], text)
        return {"reward_score": reward.value, "reward_extra_info": {"acc": reward.accuracy}}

    async def _reward(self, ground_truth: str, text: str) -> Reward:
        problem = from_ground_truth(ground_truth).for_reward()
        for attempt in range(1, self._retry.max_reward_attempts + 1):
            try:
                return await self._router.reward(problem, text)
            except RewardFault:
                if attempt == self._retry.max_reward_attempts:
                    raise
            await asyncio.sleep(self._retry.pause_seconds(attempt))
        raise AssertionError
