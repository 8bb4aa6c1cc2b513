"""Does the choice of the batch favour short responses? First in, first out beside the first batch that is finished.

    python benchmarks/rollout_length_bias.py

First step: the mean length of what a policy selects against what an unhurried run selects of the same launches, where
everything is waited for (common random numbers: prompts, seeds and lengths are the same). Steady state: over one pass
through the data, where prompts that were aborted come back first, against the mean length of surviving groups of the
same prompts, drawn without a scheduler. Both are means over independent runs with their standard error. The scale is
32 engines and 64 prompts per step, two prompts per engine as in rollout_sim.py. What matters is the share of launches
that is in flight when the batch is full, which does not depend on the scale. Everything else: rollout_model.py.
"""

import argparse
import functools
import statistics
import time
from dataclasses import replace

from rollout_model import SURVIVAL, Case, Setup, draw_response

from megatron_mimo.rl.scheduler import policy as policies
from megatron_mimo.rl.scheduler.policy import SchedulingPolicy
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch

CASES = [
    Case(name="short, wide", median_tokens=3000, sigma=1.0, judge_seconds=20, workers_per_engine=0),
    Case(name="middle", median_tokens=6000, sigma=0.7, judge_seconds=20, workers_per_engine=0),
]
POLICIES = {"first in, first out": policies.SEAMLESS, "first finished": policies.FIRST_FINISHED}
UNHURRIED = replace(policies.NAIVE, round_ratio=4.0)
DRAWS = 8
"""Groups a prompt for the mean without a scheduler."""


def mean_length(batches: list[RolloutBatch]) -> float:
    lengths = [len(sample.tokens) for batch in batches for group in batch.selected for sample in group.finished]
    return statistics.mean(lengths)


@functools.cache
def surviving_length(setup: Setup) -> float:
    """Mean length over surviving groups of the data's prompts."""
    case, lengths = setup.case, []
    for number in range(setup.num_data):
        for draw in range(DRAWS):
            seeds = range(draw * case.samples_per_prompt, (draw + 1) * case.samples_per_prompt)
            group = [draw_response(case, f"{number}", -1 - seed) for seed in seeds]
            if len({solved for solved, _ in group}) == 2:
                lengths += [tokens for _, tokens in group]
    return statistics.mean(lengths)


@functools.cache
def unhurried_length(setup: Setup) -> float:
    return mean_length(setup.run(UNHURRIED))


def first_step_bias(setup: Setup, policy: SchedulingPolicy, runs: int) -> list[float]:
    biases = []
    for run in range(runs):
        # Another seed, another order of the data: other prompts.
        own = replace(setup, steps=1, seed=1000 + run)
        biases.append(mean_length(own.run(policy)) / unhurried_length(own) - 1)
    return biases


def steady_bias(setup: Setup, policy: SchedulingPolicy, runs: int) -> list[float]:
    steps = int(SURVIVAL * setup.num_data / setup.num_prompts) - 1
    fair = surviving_length(setup)
    return [mean_length(replace(setup, steps=steps, seed=2000 + run).run(policy)) / fair - 1 for run in range(runs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=64, help="prompts a batch")
    parser.add_argument("--data", type=int, default=2048, help="prompts of the data")
    parser.add_argument("--runs", type=int, default=8)
    arguments = parser.parse_args()
    start = time.process_time()
    print(f"{'case':16}{'selection':22}{'first step':>20}{'steady state':>20}")
    for case in CASES:
        setup = Setup(case, arguments.engines, arguments.prompts, num_data=arguments.data)
        for name, policy in POLICIES.items():
            cells = []
            for measure in (first_step_bias, steady_bias):
                biases = measure(setup, policy, arguments.runs)
                error = statistics.stdev(biases) / len(biases) ** 0.5
                cells.append(f"{statistics.mean(biases):+.2%} +- {error:.2%}")
            print(f"{case.name:16}{name:22}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
    print(f"processor seconds: {time.process_time() - start:.0f}")


if __name__ == "__main__":
    main()
