"""The report's rollout engine against its baselines in virtual time: 256 engines, beside Tables 2 and 3 of the report.

    python benchmarks/rollout_sim.py                          # all cases, 512 prompts per step, and their ranges
    python benchmarks/rollout_sim.py --prompts 64 --engines 32 --seeds 8 --policies seamless oracle

Not published, so varied: lengths, decoding speed by load, samples per prompt (`CASES`, rollout_model.py). The judge is
a number of workers with one queue; its time per sample is set in each case so that naive dynamic sampling is idle as
much as in the report (or as near as it gets); the share of surviving prompts is the report's 41 %. Idle: 1 - time in
which an engine works on a response that is finished / (engines * step). Overall speed-up counts the trainer at 9 % of
the naive step.
"""

import argparse
import asyncio
import time
from dataclasses import replace

from rollout_measure import Result, fit_judge, measure
from rollout_model import ORACLE, SURVIVAL, Case, Setup

from megatron_mimo.rl.sample import Prompt
from megatron_mimo.rl.scheduler import policy as policies
from megatron_mimo.rl.scheduler.group_runner import Span
from megatron_mimo.rl.scheduler.idle_time import idle_ratio
from megatron_mimo.rl.scheduler.policy import SchedulingPolicy
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch
from megatron_mimo.rl.scheduler.validation import stream_groups
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time

NAIVE_IDLE, VALIDATION_IDLE = 0.693, 0.658
COLUMNS = ("overall", "rollout", "norm. idle", "idle", "waste", "judge alone", "aborted")
UNKNOWN = (None,) * len(COLUMNS)
REPORT = {  # the columns; None: not given
    "static": (2.45, 2.82, 0.36, 0.708, None, None, None),
    "naive": (1.00, 1.00, 1.00, 0.693, 0.221, None, None),
    "continuous": (1.99, 2.20, 0.25, 0.388, 0.139, None, None),
    "asynchronous": (2.09, 2.34, 0.21, 0.340, 0.164, None, None),
    "seamless": (2.29, 2.61, 0.15, 0.277, 0.129, None, None),
}
BOUNDS = f"{1 / (1 - NAIVE_IDLE):.2f}x rollout; zero idle and zero waste {1.221 / (1 - NAIVE_IDLE):.2f}x"
NOTES = f"""
continuous, N: N synchronous reward slots per engine. seamless, no margin: the report's rule of launching. first
finished: not in the report; it prefers short responses. oracle: knows how many launches it needs. judge alone: share of
the step after the last response. aborted: share of the engines' time spent on responses that were thrown away.
Bounds, from the report's definitions, the busy time of naive sampling held fixed: zero idle {BOUNDS};
validation {1 / (1 - VALIDATION_IDLE):.2f}x. Engines that decode more tokens per second with more requests at a time
finish sooner when a whole step is launched at once, and can pass them."""
VALIDATION_BY_SETS = policies.SchedulingPolicy(
    name="validation", launch="once", rewards="after_generation", stop="all_done", dynamic_sampling=False
)
CASES = [
    Case(name="short, wide", median_tokens=3000, sigma=1.0),
    Case(name="shorter, wider", median_tokens=1500, sigma=1.2),
    Case(name="middle", median_tokens=6000, sigma=0.7),
    Case(name="long, 16 samples", median_tokens=9000, sigma=0.6, request_seconds=0.0004, samples_per_prompt=16),
    Case(name="memory-bound", median_tokens=6000, sigma=0.7, request_seconds=0.0),
    Case(name="compute-bound", median_tokens=6000, sigma=0.7, weights_seconds=0.0, request_seconds=0.0005, seats=16),
]


def validation(setup: Setup, num_sets: int = 4) -> tuple[float, float, float]:
    """(speed-up, idle by sets, idle streaming): data sets of a batch each, one after the other against streaming."""
    setup = fit_judge(setup, VALIDATION_BY_SETS, VALIDATION_IDLE)
    (by_sets,) = replace(setup, steps=1).run(VALIDATION_BY_SETS)

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
    idle = [idle_ratio(batch.spans, setup.num_engines, batch.seconds) for batch in (by_sets, streamed)]
    return num_sets * by_sets.seconds / streamed.seconds, idle[0], idle[1]


def chosen_policies(setup: Setup) -> dict[str, SchedulingPolicy]:
    """The policies in the table's order; synchronous rewards with two numbers of slots, seamless with a margin too."""
    return {
        "static": policies.STATIC,
        "naive": policies.NAIVE,
        **{f"continuous, {n}": replace(policies.CONTINUOUS, reward_concurrency=n * setup.num_engines) for n in (2, 4)},
        "asynchronous": policies.ASYNCHRONOUS,
        "seamless": policies.SEAMLESS,
        "seamless, no margin": replace(policies.SEAMLESS, launch_deviations=0.0),
        "first finished": policies.FIRST_FINISHED,
        "oracle": ORACLE,
    }


def run_case(setup: Setup, names: list[str]) -> tuple[dict[str, tuple[float, ...]], tuple[float, float, float]]:
    """The columns of the named policies, and `validation`."""
    setup = fit_judge(setup, policies.NAIVE, NAIVE_IDLE)
    case = setup.case
    print(
        f"\n{case.name}: median {case.median_tokens:.0f} tokens, sigma {case.sigma}, {case.samples_per_prompt} samples "
        f"a prompt, decoding step {case.weights_seconds * 1e3:.0f} + {case.request_seconds * 1e3:.1f} b ms, judge "
        f"{setup.case.judge_seconds:.1f} s on {case.workers_per_engine * setup.num_engines} workers",
        flush=True,
    )
    chosen = {name: policy for name, policy in chosen_policies(setup).items() if not names or name in names}
    results = {name: measure(warmed_up(setup, policy), policy) for name, policy in chosen.items()}
    columns = {name: result.columns(results["naive"]) for name, result in results.items()}
    print_table({name: [values] for name, values in columns.items()})
    if "oracle" in results:
        print(f"speed over the oracle's: {ratios(results)}")
    checked = validation(setup)
    print_validation([checked])
    return columns, checked


def warmed_up(setup: Setup, policy: SchedulingPolicy) -> Setup:
    """With a first step that does not count for what is compared with the oracle: it measures the cost of load."""
    return replace(setup, warm_up_steps=1 if policy.name in ("seamless", "oracle") else 0)


def ratios(results: dict[str, Result]) -> str:
    """How near each of the seamless forms comes to knowing the needed launches."""
    names = [name for name in ("seamless", "seamless, no margin") if name in results]
    return ", ".join(f"{name} {results['oracle'].seconds / results[name].seconds:.1%}" for name in names)


def print_table(rows: dict[str, list[tuple[float, ...]]]) -> None:
    """Ranges over the cases, the report's figure in parentheses."""
    print(f"{'policy':20}" + "".join(f"{name:>23}" for name in COLUMNS))
    for name, cases in rows.items():
        cells = []
        for place, theirs in enumerate(REPORT.get(name.partition(",")[0], UNKNOWN)):
            form = (lambda value: f"{value:.2f}") if place < 3 else (lambda value: f"{value:.1%}")
            values = [case[place] for case in cases]
            ends = dict.fromkeys((form(min(values)), form(max(values))))
            cells.append(f"{' - '.join(ends)} ({'-' if theirs is None else form(theirs)})")
        print(f"{name:20}" + "".join(f"{cell:>23}" for cell in cells), flush=True)


def print_validation(cases: list[tuple[float, float, float]]) -> None:
    speedup, before, after = ([case[place] for case in cases] for place in range(3))
    print(
        f"validation, four data sets: {min(speedup):.2f} - {max(speedup):.2f}x (1.96x), idle {min(before):.1%} - "
        f"{max(before):.1%} -> {min(after):.1%} - {max(after):.1%} (65.8% -> 32.9%)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=256)
    parser.add_argument("--prompts", type=int, default=512, help="prompts a batch")
    parser.add_argument("--steps", type=int, default=1, help="steps a policy")
    parser.add_argument("--seeds", type=int, default=1, help="runs per policy, each with its own prompts")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of the guesses")
    parser.add_argument("--policies", nargs="*", default=[], help="rows of the table, naive among them; default all")
    arguments = parser.parse_args()
    names = [*dict.fromkeys(["naive", *arguments.policies])] if arguments.policies else []
    start = time.process_time()
    print(f"ours (report's); {arguments.engines} engines, {arguments.prompts} prompts, {SURVIVAL:.0%} surviving")
    done = [
        run_case(Setup(case, arguments.engines, arguments.prompts, arguments.steps, num_seeds=arguments.seeds), names)
        for case in CASES[: arguments.cases]
    ]
    print(f"\nrange over the {len(done)} cases")
    print_table({name: [columns[name] for columns, _ in done] for name in done[0][0]})
    print_validation([checked for _, checked in done])
    print(f"{NOTES}\nprocessor seconds: {time.process_time() - start:.0f}")


if __name__ == "__main__":
    main()
