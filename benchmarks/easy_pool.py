"""The easy-data pool: how often it is drawn from, and what it does to the efficiency of dynamic sampling.

    python benchmarks/easy_pool.py

A model of learning, no training: a prompt of difficulty d is solved with probability 1 / (1 + exp(d - skill)), d is
normal, and the skill grows linearly over the run, faster than any real run to see the pool at work. Every step draws
prompts in order until the batch is full of groups whose samples disagree. Efficiency: groups used over groups drawn.
Beside the pool: `no pool` leaves solved prompts in the data, `thrown away` never draws a solved prompt again (the
report: unstable). Draws: share from the pool while it had a prompt to give, with a 95 % interval (Wilson).
"""

import argparse
import math
import random
import statistics
import time
from dataclasses import dataclass

from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Outcome, Prompt, Sample, SampleGroup

NEVER = 1e-12
"""As alpha: solved prompts leave the data and are not drawn again."""
ROWS = {"no pool": 0.0, "alpha 0.05": 0.05, "alpha 0.1": 0.1, "alpha 0.2": 0.2, "thrown away": NEVER}


@dataclass(frozen=True, kw_only=True)
class World:
    num_prompts: int = 4096
    samples_per_prompt: int = 16
    batch: int = 64
    steps: int = 200
    difficulty_std: float = 2.5
    first_skill: float = -1.0
    last_skill: float = 3.0


@dataclass
class Outcomes:
    """Of one run."""

    efficiency: list[float]
    """A step."""
    easy: int
    with_pool: int
    relearned: int
    """Pool prompts that were no longer solved and went back to the data."""


def run(world: World, alpha: float, seed: int) -> Outcomes:
    generator = random.Random(f"world {seed}")
    prompts = [Prompt(id=f"{index}") for index in range(world.num_prompts)]
    difficulty = {prompt.id: generator.gauss(0, world.difficulty_std) for prompt in prompts}
    sampler, launches, relearned, efficiency = PromptSampler(prompts, alpha=alpha, seed=seed), 0, 0, []
    for step in range(world.steps):
        skill = world.first_skill + (world.last_skill - world.first_skill) * step / max(1, world.steps - 1)
        used = drawn = 0
        while used < world.batch:
            prompt, origin = sampler.draw()
            rate = 1 / (1 + math.exp(difficulty[prompt.id] - skill))
            solved = [generator.random() < rate for _ in range(world.samples_per_prompt)]
            samples = [Sample(tokens=(), rollout_logprobs=(), reward=float(ok), solved=ok) for ok in solved]
            group = SampleGroup(prompt=prompt, launch_index=launches, origin=origin, samples=list(samples))
            group.outcome = Outcome.SELECTED if group.has_signal else Outcome.FILTERED
            sampler.settle(group)
            used, drawn, launches = used + group.has_signal, drawn + 1, launches + 1
            relearned += origin == "easy_pool" and not group.all_solved
        efficiency.append(used / drawn)
    return Outcomes(efficiency, sampler.counts.easy, sampler.counts.with_pool, relearned)


def wilson(hits: int, number: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share."""
    center = (hits + z**2 / 2) / (number + z**2)
    half = z * math.sqrt(hits * (number - hits) / number + z**2 / 4) / (number + z**2)
    return center - half, center + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=World.steps)
    arguments = parser.parse_args()
    start, world = time.process_time(), World(steps=arguments.steps)
    print(f"{world}, {arguments.seeds} seeds")
    header = ("", "efficiency", "first quarter", "last quarter", "draws from the pool", "95 %", "back to data")
    print("".join(f"{name:>22}" for name in header))
    quarter = max(1, world.steps // 4)
    for name, alpha in ROWS.items():
        runs = [run(world, alpha, seed) for seed in range(arguments.seeds)]
        cells = [name]
        for part in (slice(None), slice(quarter), slice(-quarter, None)):
            means = [statistics.mean(own.efficiency[part]) for own in runs]
            cells.append(f"{statistics.mean(means):.1%} +- {statistics.stdev(means):.1%}")
        easy, with_pool = sum(own.easy for own in runs), sum(own.with_pool for own in runs)
        low, high = wilson(easy, with_pool) if with_pool else (0.0, 0.0)
        cells += [f"{easy / max(1, with_pool):.2%} of {with_pool}", f"{low:.2%} - {high:.2%}"]
        cells.append(f"{sum(own.relearned for own in runs)} of {easy}")
        print("".join(f"{cell:>22}" for cell in cells), flush=True)
    print(f"processor seconds: {time.process_time() - start:.0f}")


if __name__ == "__main__":
    main()
