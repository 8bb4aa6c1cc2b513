"""The rollout scheduler on real engines: naive dynamic sampling, first finished and seamless, same prompts, one run.

    python benchmarks/rollout_vllm.py --model MODEL_DIR             # about 5 minutes on two free cores

MODEL_DIR is an exported nano model that solves some of the nano code problems some of the time, asked as a chat: the
start of the nano RL run. With two samples per prompt about half of its groups have different rewards, near the report's
41 %; where nearly all have, one round is enough and there is nothing to gain. One that solves none, or all, gives no
groups to train on, and the run ends with that message.

vLLM engines behind Ray actors generate programs for nano code problems at temperature 1, the local judge runs every
program on the problem's tests. Tests of nano problems take milliseconds where those of real ones take seconds, so each
solution is held back for --judge-latency seconds, for all policies alike; all waiting solutions are held in parallel.

Each round gives every policy the same order of prompts and asks for the same number of groups, with engines and
samples per prompt unchanged. The table shows medians over the rounds. Naive is scored in parallel after the generation
of a round. Idle: 1 - time in which an engine works on a response that is finished / (engines * time). Waste: usable
groups that were thrown away over the groups asked for. Length: of the selected responses, tokens.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.judge import JudgeConfig
from megatron_mimo.config.rl import EngineConfig, GenerationConfig, RolloutConfig
from megatron_mimo.judge import JudgePool, Solution, Verdict
from megatron_mimo.reward.router import last_code_block
from megatron_mimo.rl.engine_actor import RayRolloutEngine, start_all
from megatron_mimo.rl.engine_protocol import Score, ScoringFailed
from megatron_mimo.rl.problems.nano import nano_code
from megatron_mimo.rl.problems.problem import Problem
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Prompt, Sample
from megatron_mimo.rl.scheduler.idle_time import idle_ratio
from megatron_mimo.rl.scheduler.policy import FIRST_FINISHED, NAIVE, SEAMLESS, STATIC, SchedulingPolicy
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch, RolloutScheduler
from megatron_mimo.serve.speculative import read_model_config

POLICIES = (NAIVE, FIRST_FINISHED, SEAMLESS)
WIDTHS = 9, 10, 16, 8, 7, 8, 8
BAR = 1.5
"""Speed-up of seamless over naive that is asked for."""


class JudgedCode:
    """1 for a program that passes every test, after the artificial latency."""

    def __init__(self, judge: JudgePool, problems: dict[str, Problem], tokenizer: Any, latency_seconds: float) -> None:
        self._judge, self._problems, self._tokenizer = judge, problems, tokenizer
        self._latency_seconds = latency_seconds
        self.judge_seconds: list[float] = []
        """What the judge itself took, without the latency."""

    async def score(self, prompt: Prompt, sample: Sample) -> Score:
        text = self._tokenizer.decode(sample.tokens, skip_special_tokens=True)
        program = last_code_block(text) or text.partition("\nassert")[0]
        started = time.perf_counter()
        tests = self._problems[prompt.id].tests
        result = await self._judge.judge(Solution(source=program), tests, stop_at_first_failure=True)
        self.judge_seconds.append(time.perf_counter() - started)
        await asyncio.sleep(self._latency_seconds)
        if result.verdict is Verdict.JUDGE_FAULT:
            raise ScoringFailed(result.tests[0].message)
        solved = result.verdict is Verdict.ACCEPTED
        return Score(reward=float(solved), solved=solved)


@dataclass(frozen=True)
class Result:
    """One policy in one round."""

    seconds: float
    idle: float
    waste: float
    length: float
    groups: int
    """Launched."""


def main() -> int:
    """Print the table; exit code 1 below the bar."""
    args = _arguments()
    try:
        results = asyncio.run(run(args))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return print_table(results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of an exported model, with a tokenizer")
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--seats", type=int, default=32, help="requests an engine takes at a time")
    parser.add_argument("--groups", type=int, default=24, help="groups with different rewards that a step asks for")
    parser.add_argument("--samples", type=int, default=2, help="samples per prompt")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--judge-latency", type=float, default=2.0, help="artificial seconds per solution")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


async def run(args: argparse.Namespace) -> dict[str, list[Result]]:
    """Policy -> its rounds."""
    import ray
    from transformers import PreTrainedTokenizerFast

    read_model_config(args.model)  # a folder without a model is reported before anything starts
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.model)
    problems = {problem.id: problem for problem, held_out in nano_code() if not held_out}
    prompts = [Prompt(id=problem.id, tokens=encode(tokenizer, problem.prompt)) for problem in problems.values()]
    config = EngineConfig(num_engines=args.engines, max_concurrent_requests=args.seats, memory_bytes=1 << 29)
    engines = [RayRolloutEngine(f"engine-{index}", args.model.resolve(), config) for index in range(args.engines)]
    os.environ.setdefault("RAY_worker_niceness", "0")  # engines must not yield to judge and driver; Ray's own is 15
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        started = time.perf_counter()
        await start_all(engines)
        print(f"{len(engines)} engines started in {time.perf_counter() - started:.0f} s")
        with JudgePool(JudgeConfig(num_slots=1)) as judge:
            reward = JudgedCode(judge, problems, tokenizer, args.judge_latency)
            return await measure(args, engines, reward, prompts)
    finally:
        for engine in engines:
            engine.close()
        ray.shutdown()


def encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """As a chat where the model has a template, else as text to continue with."""
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return tuple(tokenizer.encode(text, add_special_tokens=False))


async def measure(
    args: argparse.Namespace, engines: list[RayRolloutEngine], reward: JudgedCode, prompts: list[Prompt]
) -> dict[str, list[Result]]:
    async def step(policy: SchedulingPolicy, seed: int, survival: float = 0.5, groups: int = args.groups):
        settings = RolloutConfig(
            num_groups=groups,
            samples_per_prompt=args.samples,
            seed=seed,
            generation=GenerationConfig(max_new_tokens=args.max_new_tokens),
            survival_prior=survival,
        )
        sampler = PromptSampler(prompts, alpha=0.0, seed=seed)
        return await RolloutScheduler(engines, reward, sampler, settings, policy).collect()

    survival = describe(await step(STATIC, seed=0, groups=4 * args.groups), reward, args)
    results = defaultdict(list)
    for index in range(args.rounds):
        for policy in POLICIES[index % 3 :] + POLICIES[: index % 3]:
            result = summary(await step(policy, seed=index + 1, survival=survival), len(engines))
            results[policy.name].append(result)
            print(f"round {index + 1} {policy.name:15} {result.seconds:6.2f} s, {result.groups} groups launched")
    for engine in engines:
        drafts = await engine.counters()
        print(f"{engine.name}: {drafts.accepted_tokens} of {drafts.draft_tokens} drafted tokens accepted")
    return results


def describe(batch: RolloutBatch, reward: JudgedCode, args: argparse.Namespace) -> float:
    """Print what model and judge are like, from an unfiltered batch; returns the share of groups that survive."""
    kinds = Counter(
        "mixed" if group.has_signal else "all right" if group.all_solved else "all wrong" for group in batch.groups
    )
    lengths = [len(sample.tokens) for group in batch.groups for sample in group.finished]
    own = statistics.mean(reward.judge_seconds) * 1000
    print(f"{len(batch.groups)} groups of {args.samples} unfiltered: {', '.join(f'{n} {k}' for k, n in kinds.items())}")
    print(f"response tokens: mean {statistics.mean(lengths):.0f}, {min(lengths)} to {max(lengths)}")
    print(f"judge: {own:.0f} ms a solution, its queue included, and {args.judge_latency} s of artificial latency")
    return max(0.05, min(1.0, kinds["mixed"] / len(batch.groups)))


def summary(batch: RolloutBatch, num_engines: int) -> Result:
    lengths = [len(sample.tokens) for group in batch.selected for sample in group.finished]
    idle = idle_ratio(batch.spans, num_engines, batch.seconds)
    return Result(batch.seconds, idle, batch.waste_ratio, statistics.mean(lengths), len(batch.groups))


def print_table(results: dict[str, list[Result]]) -> int:
    """Medians, and the spread of the speed-up over the rounds; returns the exit code."""
    heads = zip(("seconds", "speed-up", "of rounds", "waste", "idle", "length", "groups"), WIDTHS, strict=True)
    print(f"\n{'policy':16}{''.join(f'{head:>{width}}' for head, width in heads)}")
    naive = results[NAIVE.name]
    speed_ups = {}
    for policy in POLICIES:
        rounds = results[policy.name]
        median = {name: statistics.median(getattr(each, name) for each in rounds) for name in Result.__annotations__}
        ratios = [base.seconds / each.seconds for base, each in zip(naive, rounds, strict=True)]
        speed_ups[policy.name] = statistics.median(each.seconds for each in naive) / median["seconds"]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{policy.name:16}{median['seconds']:9.2f}{speed_ups[policy.name]:9.2f}x{spread:>16}{median['waste']:8.0%}"
            f"{median['idle']:7.0%}{median['length']:8.1f}{median['groups']:8.0f}"
        )
    reached = speed_ups[SEAMLESS.name] >= BAR
    print(f"\nseamless over naive: {speed_ups[SEAMLESS.name]:.2f}x, {'at least' if reached else 'below'} {BAR}x")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
