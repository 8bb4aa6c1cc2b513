"""A small world in virtual time for tests of the rollout scheduler: prompts, responses, engines, a judge."""

import random
from collections.abc import Callable
from typing import Any

from megatron_mimo.config.rl import GenerationConfig, RetryConfig, RolloutConfig
from megatron_mimo.rl.engine_protocol import (
    Generation,
    GenerationFailed,
    GenerationRequest,
    RolloutFault,
    Score,
    ScoringFailed,
)
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Prompt, Sample
from megatron_mimo.rl.scheduler.policy import SEAMLESS, SchedulingPolicy
from megatron_mimo.rl.scheduler.scheduler import RolloutScheduler
from megatron_mimo.rl.simulated_engine import DecodingSpeed, SimulatedEngine, SimulatedReward

NUM_PROMPTS = 60


def make_prompts(number: int = NUM_PROMPTS) -> list[Prompt]:
    return [Prompt(id=f"{index:03}") for index in range(number)]


def difficulty(prompt: Prompt) -> float:
    """Probability to solve: a fifth of the prompts never, a fifth always."""
    return [0.0, 0.3, 0.5, 0.8, 1.0][int(prompt.id) % 5]


def respond(request: GenerationRequest) -> Generation:
    """Lengths with a long tail; the first token says whether the response is right. A function of the seed alone."""
    generator = random.Random(f"{request.prompt.id} {request.seed}")
    solved = generator.random() < difficulty(request.prompt)
    number = min(request.settings.max_new_tokens, 1 + int(generator.lognormvariate(3.0, 0.9)))
    tokens = [int(solved), *(generator.randrange(2, 99) for _ in range(number - 1))]
    return Generation(tokens=tokens, logprobs=[-1.0] * len(tokens), finish_reason="stop")


def truth(sample: Sample) -> float:
    return float(sample.tokens[0])


def judge(prompt: Prompt, sample: Sample) -> Score:
    return Score(reward=truth(sample), solved=bool(truth(sample)))


class FaultyEngine(SimulatedEngine):
    """Fails requests with probability `fault_rate`, by a generator of its own."""

    fault_rate = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.faults = random.Random(self.name)

    async def generate(self, request: GenerationRequest) -> Generation:
        generation = await super().generate(request)
        if self.faults.random() < self.fault_rate:
            raise GenerationFailed("by chance")
        return generation


class FaultyReward(SimulatedReward):
    """Fails with probability `fault_rate`; every score is kept for the tests."""

    fault_rate = 0.0

    def __init__(self, latency_seconds: Callable[[Prompt, Sample], float]) -> None:
        super().__init__(judge, latency_seconds)
        self.faults = random.Random("reward")
        self.num_scored = 0

    async def score(self, prompt: Prompt, sample: Sample) -> Score:
        score = await super().score(prompt, sample)
        if self.faults.random() < self.fault_rate:
            fault: RolloutFault = ScoringFailed("by chance")
            raise fault
        self.num_scored += 1
        return score


class World:
    """Everything a scheduler needs; `scheduler()` makes one, over new engines, as after a crash."""

    def __init__(
        self,
        policy: SchedulingPolicy = SEAMLESS,
        *,
        num_engines: int = 3,
        num_groups: int = 8,
        samples_per_prompt: int = 4,
        alpha: float = 0.1,
        seats: int = 12,
        latency_seconds: float = 5.0,
        seed: int = 1,
        retry: RetryConfig | None = None,
        max_pending_rewards: int = 4096,
        max_launched_groups: int = 0,
    ) -> None:
        self.policy, self.num_engines, self.seats, self.alpha, self.seed = policy, num_engines, seats, alpha, seed
        self.latency_seconds = latency_seconds
        self.engine_fault_rate = self.reward_fault_rate = 0.0
        self.settings = RolloutConfig(
            num_groups=num_groups,
            samples_per_prompt=samples_per_prompt,
            seed=seed,
            generation=GenerationConfig(max_new_tokens=200),
            retry=retry or RetryConfig(max_generation_attempts=50, max_reward_attempts=50, max_restarts=50),
            max_pending_rewards=max_pending_rewards,
            max_launched_groups=max_launched_groups,
            survival_weight_groups=8,
        )
        self.engines: list[FaultyEngine] = []

    def scheduler(self, saved: dict[str, Any] | None = None) -> RolloutScheduler:
        speed = DecodingSpeed(weights_seconds=0.05, request_seconds=0.01)
        self.engines = [
            FaultyEngine(f"engine{index}", respond, speed, max_concurrent_requests=self.seats, restart_seconds=20.0)
            for index in range(self.num_engines)
        ]
        self.reward = FaultyReward(lambda prompt, sample: self.latency_seconds * (0.5 + len(sample.tokens) % 7 / 7))
        for part in (*self.engines, self.reward):
            part.fault_rate = self.reward_fault_rate if part is self.reward else self.engine_fault_rate
        self.prompts = PromptSampler(make_prompts(), alpha=self.alpha, seed=self.seed)
        scheduler = RolloutScheduler(self.engines, self.reward, self.prompts, self.settings, self.policy)
        if saved is not None:
            scheduler.load_state_dict(saved)
        return scheduler
