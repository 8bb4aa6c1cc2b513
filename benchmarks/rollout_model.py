"""What the rollout simulations assume of prompts, responses, engines and the judge. Nothing of it is published.

A prompt's pass rate is drawn from a Beta(a, a) distribution whose `a` lets 41 % of the prompts survive dynamic
sampling; its length has its own part. Harder prompts and wrong answers are longer.
"""

import functools
import math
import random
from dataclasses import dataclass, field, replace

from megatron_mimo.config.rl import GenerationConfig, RetryConfig, RolloutConfig
from megatron_mimo.rl.engine_protocol import Generation, GenerationRequest, Score
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Prompt, Sample
from megatron_mimo.rl.scheduler.group_runner import request_seed
from megatron_mimo.rl.scheduler.ledger import StepLedger, SurvivalEstimate
from megatron_mimo.rl.scheduler.policy import SchedulingPolicy
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch, RolloutScheduler
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time
from megatron_mimo.rl.simulated_engine import DecodingSpeed, SimulatedEngine, SimulatedReward

SURVIVAL = 0.41
HARDNESS = 1.4
"""Length of a prompt that is never solved over that of one solved half of the time; the inverse for always solved."""
WRONG = 1.2
"""Length of a wrong answer over a right one."""
JUDGE_LIMIT = 8.0
"""Longest time of a sample in the judge, over the mean before the cut: programs have time limits."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One guess."""

    name: str
    median_tokens: float
    sigma: float
    """Of the log-normal length, between and within prompts together; cut at max_tokens."""
    prompt_share: float = 0.5
    """Of the log length's variance, between prompts."""
    weights_seconds: float = 0.005
    request_seconds: float = 0.0002
    """A decoding step of b requests takes weights_seconds + b * request_seconds."""
    seats: int = 512
    """Requests at a time on an engine."""
    samples_per_prompt: int = 8
    max_tokens: int = 32_768
    judge_seconds: float = 0.0
    """Mean time that a judge's worker takes for a sample: exponential, cut at JUDGE_LIMIT means."""
    workers_per_engine: int = 8
    """Workers of the judge; samples wait in one queue for them. 0: as many as there are samples."""


@functools.cache
def beta_parameter(samples_per_prompt: int) -> float:
    """The a with 1 - 2 E[p^n] = SURVIVAL for p ~ Beta(a, a)."""
    low, high = 1e-4, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        all_right = math.prod((middle + i) / (2 * middle + i) for i in range(samples_per_prompt))
        low, high = (middle, high) if 1 - 2 * all_right < SURVIVAL else (low, middle)
    return low


@functools.lru_cache(maxsize=1 << 17)
def pass_rate(identifier: str, samples_per_prompt: int) -> float:
    a = beta_parameter(samples_per_prompt)
    return random.Random(f"rate {identifier}").betavariate(a, a)


@functools.lru_cache(maxsize=1 << 17)
def log_median(case: Case, identifier: str) -> float:
    """Of the lengths of a prompt's right answers."""
    own = random.Random(f"length {identifier}").gauss(0, case.sigma * math.sqrt(case.prompt_share))
    hardness = (1 - 2 * pass_rate(identifier, case.samples_per_prompt)) * math.log(HARDNESS)
    return math.log(case.median_tokens) + own + hardness


def draw_response(case: Case, identifier: str, seed: int) -> tuple[bool, int]:
    """(solved, tokens): a function of prompt and seed alone."""
    generator = random.Random(f"{identifier} {seed}")
    solved = generator.random() < pass_rate(identifier, case.samples_per_prompt)
    within = generator.gauss(0, case.sigma * math.sqrt(1 - case.prompt_share))
    length = math.exp(log_median(case, identifier) + within) * (1.0 if solved else WRONG)
    return solved, max(16, min(case.max_tokens, int(length)))


def respond(case: Case, request: GenerationRequest) -> Generation:
    """The tokens are a range: only its length and first number matter."""
    solved, number = draw_response(case, request.prompt.id, request.seed)
    return Generation(tokens=range(int(solved), int(solved) + number), logprobs=range(number))


def judge_seconds(case: Case, prompt: Prompt, sample: Sample) -> float:
    """A function of prompt and response, so that every policy has the same judge."""
    draw = random.Random(f"judge {prompt.id} {len(sample.tokens)}").expovariate(1)
    return min(draw, JUDGE_LIMIT) * case.judge_seconds


def judge(prompt: Prompt, sample: Sample) -> Score:
    return Score(reward=float(sample.tokens[0]), solved=bool(sample.tokens[0]))


@dataclass(frozen=True)
class Setup:
    """A simulated cluster and its batch."""

    case: Case
    num_engines: int
    num_prompts: int
    steps: int = 1
    num_data: int = 0
    """Prompts in the data; 0: 40 batches."""
    seed: int = 1234
    num_seeds: int = 1
    warm_up_steps: int = 0
    """Before the steps that count: a run's first step knows no cost of load and has no estimate of its own."""

    @property
    def seeds(self) -> range:
        """Of the runs whose mean is taken."""
        return range(self.seed, self.seed + self.num_seeds)

    def parts(self) -> tuple[list[SimulatedEngine], SimulatedReward, RolloutConfig]:
        case = self.case
        speed = DecodingSpeed(weights_seconds=case.weights_seconds, request_seconds=case.request_seconds)
        engines = [
            SimulatedEngine(
                f"{index}", lambda request: respond(case, request), speed, max_concurrent_requests=case.seats
            )
            for index in range(self.num_engines)
        ]
        workers = case.workers_per_engine * self.num_engines or None
        reward = SimulatedReward(judge, lambda prompt, sample: judge_seconds(case, prompt, sample), workers)
        settings = RolloutConfig(
            num_groups=self.num_prompts,
            samples_per_prompt=case.samples_per_prompt,
            seed=self.seed,
            generation=GenerationConfig(max_new_tokens=case.max_tokens),
            retry=RetryConfig(reward_timeout_seconds=None),
            max_concurrent_rewards=workers or 1 << 20,
            max_pending_rewards=1 << 20,
            survival_prior=SURVIVAL,
            survival_weight_groups=self.num_prompts,
        )
        return engines, reward, settings

    def sampler(self) -> PromptSampler:
        number = self.num_data or 40 * self.num_prompts
        return PromptSampler([Prompt(id=f"{index}") for index in range(number)], alpha=0.0, seed=self.seed)

    def run(self, policy: SchedulingPolicy) -> list[RolloutBatch]:
        """The steps' batches."""

        async def main() -> list[RolloutBatch]:
            engines, reward, settings = self.parts()
            sampler = self.sampler()
            scheduler = RolloutScheduler(engines, reward, sampler, settings, policy)
            batches = []
            for _ in range(self.warm_up_steps + self.steps):
                if isinstance(policy, Oracle):
                    policy.look_ahead(self, sampler, scheduler.num_launched)
                batches.append(await scheduler.collect())
            return batches[self.warm_up_steps :]

        return run_in_virtual_time(main())

    def with_judge(self, seconds: float) -> "Setup":
        return replace(self, case=replace(self.case, judge_seconds=seconds))


@dataclass(frozen=True, kw_only=True)
class Oracle(SchedulingPolicy):
    """The seamless engine told beforehand how many launches fill its batch: it starts exactly those, at once."""

    launches: list[int] = field(default_factory=list)
    """Of the present step, the one entry."""

    def num_to_launch(self, step: StepLedger, survival: SurvivalEstimate, load_cost: float = 1.0) -> int:
        return max(0, self.launches[0] - len(step.groups))

    def look_ahead(self, setup: Setup, sampler: PromptSampler, first_launch: int) -> None:
        """Draw from a copy of the sampler and roll out until the batch is full."""
        copy = setup.sampler()
        copy.load_state_dict(sampler.state_dict())
        launch = first_launch
        usable = 0
        while usable < setup.num_prompts:
            prompt, _ = copy.draw()
            usable += survives(setup, prompt.id, launch)
            launch += 1
        self.launches[:] = [launch - first_launch]


def survives(setup: Setup, identifier: str, launch: int) -> bool:
    """Whether a launch of this prompt has right and wrong samples; every sample as its first attempt gives it."""
    seeds = [request_seed(setup.seed, launch, sample, 1) for sample in range(setup.case.samples_per_prompt)]
    return len({draw_response(setup.case, identifier, seed)[0] for seed in seeds}) == 2


ORACLE = Oracle(name="oracle", launch="continuous", rewards="on_arrival", stop="first_in_first_out")
