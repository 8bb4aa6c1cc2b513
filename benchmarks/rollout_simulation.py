"""The report's rollout engine against its baselines in virtual time: 256 engines, beside the report's table.

    python benchmarks/rollout_simulation.py                     # the three length distributions, 512 prompts a step
    python benchmarks/rollout_simulation.py --prompts 128 --engines 64 --steps 2

Not published, so varied: the lengths, the decoding speed by load, the samples a prompt. For each the judge's latency is
set so that naive dynamic sampling is idle as much as in the report (or as near as it gets); the share of surviving
prompts is the report's 41 %. Printed are all the cases, never one fitted point. Idle: 1 - time in which an engine works
on a response that is finished / (engines * step). Overall speed-up counts the trainer at 9 % of the naive step.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, replace

from megatron_mimo.config.rl import GenerationConfig, RetryConfig, RolloutConfig
from megatron_mimo.rl.engine_protocol import Generation, GenerationRequest, Score
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Prompt, Sample
from megatron_mimo.rl.scheduler import policy as policies
from megatron_mimo.rl.scheduler.group_runner import Span
from megatron_mimo.rl.scheduler.policy import SchedulingPolicy
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch, RolloutScheduler
from megatron_mimo.rl.scheduler.validation import stream_groups
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time
from megatron_mimo.rl.simulated_engine import DecodingSpeed, SimulatedEngine, SimulatedReward

NAIVE_IDLE, TRAINER_SHARE, SURVIVAL = 0.693, 0.09, 0.41
REPORT = {  # overall, rollout, normalised idle time, idle ratio, waste
    "static": (2.45, 2.82, 0.36, 0.708, None),
    "naive": (1.00, 1.00, 1.00, 0.693, 0.221),
    "continuous": (1.99, 2.20, 0.25, 0.388, 0.139),
    "asynchronous": (2.09, 2.34, 0.21, 0.340, 0.164),
    "seamless": (2.29, 2.61, 0.15, 0.277, 0.129),
    "first_finished": None,
}
NOTES = """
continuous, N: N synchronous reward slots an engine. seamless, 2 sd: counts on two standard deviations fewer survivors.
length: of the selected responses against surviving prompts drawn without a scheduler, and its standard error.
Bounds from the report's definitions: zero idle 3.26x rollout, 2.72x overall; and zero waste 3.98x, 3.16x; validation
2.92x. They hold the engines' busy time fixed. Here an engine with more requests at a time decodes more tokens a second,
so that launching a whole step at once also shortens the busy time, and the bounds can be passed."""
VALIDATION_BY_SETS = policies.SchedulingPolicy(
    name="validation", launch="once", rewards="after_generation", stop="all_done", dynamic_sampling=False
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One guess at what is not published."""

    name: str
    median_tokens: float
    sigma: float
    """Of the log-normal length of a solved-half-the-time prompt; cut at max_tokens."""
    request_seconds: float
    """Added to a decoding step by each request on the engine."""
    samples_per_prompt: int
    max_tokens: int = 32_768
    latency_seconds: float = 0.0
    """Mean time of a reward, exponential."""


CASES = [
    Case(name="short, wide", median_tokens=3000, sigma=1.0, request_seconds=0.0002, samples_per_prompt=8),
    Case(name="middle", median_tokens=6000, sigma=0.7, request_seconds=0.0002, samples_per_prompt=8),
    Case(name="long, loaded", median_tokens=9000, sigma=0.6, request_seconds=0.0004, samples_per_prompt=16),
    Case(name="middle, memory-bound", median_tokens=6000, sigma=0.7, request_seconds=0.0, samples_per_prompt=8),
]


def is_mixed(prompt: Prompt) -> bool:
    """The prompts that survive dynamic sampling: 41 %; the others are half too easy, half too hard."""
    return random.Random(f"kind {prompt.id}").random() < SURVIVAL


def pass_rate(prompt: Prompt) -> float:
    if is_mixed(prompt):
        return 0.5
    return float(random.Random(f"easy {prompt.id}").random() < 0.5)


def respond(case: Case, request: GenerationRequest) -> Generation:
    """Harder prompts have longer responses. The tokens are a range: only its length and first number matter."""
    generator, rate = random.Random(f"{request.prompt.id} {request.seed}"), pass_rate(request.prompt)
    # Of a mixed prompt the first two samples disagree for certain, so that survival is what it is set to.
    index = int(request.id.split("/")[1])
    solved = bool(index) if is_mixed(request.prompt) and index < 2 else generator.random() < rate
    median = case.median_tokens * {0.0: 1.4, 0.5: 1.0, 1.0: 0.6}[rate]
    number = max(16, min(case.max_tokens, int(median * generator.lognormvariate(0, case.sigma))))
    return Generation(tokens=range(int(solved), int(solved) + number), logprobs=range(number))


def judge(prompt: Prompt, sample: Sample) -> Score:
    return Score(reward=float(sample.tokens[0]), solved=bool(sample.tokens[0]))


@dataclass
class Setup:
    case: Case
    num_engines: int
    num_prompts: int
    steps: int

    def parts(self) -> tuple[list[SimulatedEngine], SimulatedReward, RolloutConfig]:
        speed = DecodingSpeed(weights_seconds=0.005, request_seconds=self.case.request_seconds)
        engines = [
            SimulatedEngine(f"{index}", lambda request: respond(self.case, request), speed, max_concurrent_requests=512)
            for index in range(self.num_engines)
        ]
        generator = random.Random("latency")
        reward = SimulatedReward(judge, lambda *_: generator.expovariate(1) * self.case.latency_seconds)
        settings = RolloutConfig(
            num_groups=self.num_prompts,
            samples_per_prompt=self.case.samples_per_prompt,
            generation=GenerationConfig(max_new_tokens=self.case.max_tokens),
            retry=RetryConfig(reward_timeout_seconds=None),
            max_concurrent_rewards=1 << 20,
            max_pending_rewards=1 << 20,
            survival_prior=SURVIVAL,
            survival_weight_groups=self.num_prompts,
        )
        return engines, reward, settings

    def run(self, policy: SchedulingPolicy) -> list[RolloutBatch]:
        async def main() -> list[RolloutBatch]:
            engines, reward, settings = self.parts()
            prompts = PromptSampler([Prompt(id=f"{index}") for index in range(40 * self.num_prompts)], alpha=0.0)
            scheduler = RolloutScheduler(engines, reward, prompts, settings, policy)
            return [await scheduler.collect() for _ in range(self.steps)]

        return run_in_virtual_time(main())


@dataclass
class Result:
    """Means over the steps."""

    seconds: float
    idle: float
    waste: float
    length: float
    length_error: float
    """Standard error of the mean."""


def measure(setup: Setup, policy: SchedulingPolicy) -> Result:
    batches = setup.run(policy)
    seconds = sum(batch.seconds for batch in batches)
    busy = sum(busy_seconds(batch) for batch in batches)
    lengths = [len(sample.tokens) for batch in batches for group in batch.selected for sample in group.finished]
    waste = statistics.mean(batch.waste_ratio for batch in batches)
    error = statistics.stdev(lengths) / len(lengths) ** 0.5
    idle = 1 - busy / (setup.num_engines * seconds)
    return Result(seconds / len(batches), idle, waste, statistics.mean(lengths), error)


def busy_seconds(batch: RolloutBatch) -> float:
    """Union a engine of the times of finished generations, summed: what was aborted counts as idle."""
    by_engine: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for span in batch.spans:
        if span.kind == "generation" and span.finished:
            by_engine[span.where].append((span.start_seconds, span.end_seconds))
    total = 0.0
    for spans in by_engine.values():
        reached = float("-inf")
        for start, end in sorted(spans):
            total += max(0.0, end - max(start, reached))
            reached = max(reached, end)
    return total


def fit_latency(setup: Setup) -> Setup:
    """The judge's latency at which naive sampling is as idle as the report's. The reward phase of a round is idle."""
    plain = measure(replace(setup, steps=1), policies.NAIVE)
    if plain.idle >= NAIVE_IDLE:
        return setup
    low, high = 0.0, plain.seconds / 4
    for _ in range(6):
        middle = (low + high) / 2
        trial = replace(setup, steps=1, case=replace(setup.case, latency_seconds=middle))
        low, high = (middle, high) if measure(trial, policies.NAIVE).idle < NAIVE_IDLE else (low, middle)
    return replace(setup, case=replace(setup.case, latency_seconds=(low + high) / 2))


def overall(rollout_speedup: float) -> float:
    return 1 / (TRAINER_SHARE + (1 - TRAINER_SHARE) / rollout_speedup)


def unbiased_length(setup: Setup) -> float:
    """Mean length over surviving prompts, without a scheduler."""
    lengths = []
    for number in range(20_000):
        prompt = Prompt(id=f"{number}")
        if is_mixed(prompt):
            request = GenerationRequest(id="0/9", prompt=prompt, settings=GenerationConfig(), seed=number)
            lengths += [len(respond(setup.case, replace(request, seed=5 * number + i)).tokens) for i in range(5)]
    return statistics.mean(lengths)


def validation(setup: Setup, num_sets: int = 4) -> tuple[float, float, float]:
    """(speed-up, naive idle, streaming idle): data sets of a batch each, one after the other against streaming."""
    (naive,) = replace(setup, steps=1).run(VALIDATION_BY_SETS)

    async def main() -> RolloutBatch:
        engines, reward, settings = setup.parts()
        prompts = [Prompt(id=f"{index}") for index in range(num_sets * setup.num_prompts)]
        groups = [group async for group in stream_groups(engines, reward, prompts, settings)]
        spans = [
            Span("generation", sample.engine, 0, 0, sample.started_seconds, sample.generated_seconds, True)
            for group in groups
            for sample in group.finished
        ]
        end = asyncio.get_running_loop().time()
        return RolloutBatch(selected=groups, groups=groups, start_seconds=0, end_seconds=end, survival=1, spans=spans)

    streamed = run_in_virtual_time(main())
    idle = [1 - busy_seconds(batch) / (setup.num_engines * batch.seconds) for batch in (naive, streamed)]
    return num_sets * naive.seconds / streamed.seconds, idle[0], idle[1]


def report(setup: Setup) -> None:
    setup = fit_latency(setup)
    case = setup.case
    print(
        f"\n{case.name}: median {case.median_tokens:.0f} tokens, sigma {case.sigma}, {case.samples_per_prompt} samples "
        f"a prompt, {case.request_seconds * 1e3:.1f} ms a request in a step, judge {case.latency_seconds:.0f} s"
    )
    fair = unbiased_length(setup)
    print(f"{'policy':15}{'overall':>16}{'rollout':>16}{'norm. idle':>16}{'idle':>18}{'waste':>18}{'length':>9}")
    results = {name: measure(setup, policy) for name, policy in chosen_policies(setup).items()}
    naive = results["naive"]
    for name, own in results.items():
        speedup = naive.seconds / own.seconds
        idle = own.idle * own.seconds / (naive.idle * naive.seconds)
        columns = [f"{overall(speedup):.2f}", f"{speedup:.2f}", f"{idle:.2f}", f"{own.idle:.1%}", f"{own.waste:.1%}"]
        theirs = REPORT[name.partition(",")[0]] or (None,) * 5
        shown = ["-" if v is None else f"{v:.2f}" if i < 3 else f"{v:.1%}" for i, v in enumerate(theirs)]
        cells = [f"{mine} ({their})" for mine, their in zip(columns, shown, strict=True)]
        widths = (16, 16, 16, 18, 18)
        row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        print(f"{name:15}{row}{own.length / fair - 1:>+9.1%} +-{own.length_error / fair:.1%}")
    speedup, before, after = validation(setup)
    print(f"validation, four data sets: {speedup:.2f}x (1.96x), idle {before:.1%} -> {after:.1%} (65.8% -> 32.9%)")


def chosen_policies(setup: Setup) -> dict[str, SchedulingPolicy]:
    """The policies in the table's order; synchronous rewards with two numbers of slots, seamless with a margin too."""
    synchronous = policies.CONTINUOUS
    return {
        "static": policies.STATIC,
        "naive": policies.NAIVE,
        **{f"continuous, {n}": replace(synchronous, reward_concurrency=n * setup.num_engines) for n in (4, 16)},
        "asynchronous": policies.ASYNCHRONOUS,
        "seamless": policies.SEAMLESS,
        "seamless, 2 sd": replace(policies.SEAMLESS, launch_deviations=2.0),
        "first_finished": policies.FIRST_FINISHED,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=256)
    parser.add_argument("--prompts", type=int, default=512, help="prompts a batch")
    parser.add_argument("--steps", type=int, default=1, help="steps a policy")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of the guesses")
    arguments = parser.parse_args()
    start = time.process_time()
    print("ours (report's)")
    for case in CASES[: arguments.cases]:
        report(Setup(case, arguments.engines, arguments.prompts, arguments.steps))
    print(f"\n{NOTES}\nprocessor seconds: {time.process_time() - start:.0f}")


if __name__ == "__main__":
    main()
