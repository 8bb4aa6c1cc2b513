"""Grading while others generate, against generating first and grading afterwards: wall-clock on one vLLM engine.

    python benchmarks/evaluation_streaming.py --model MODEL_DIR [--problems 48] [--repetitions 2]

The judge is slow on purpose: `--slots` answers at a time, each for as long as makes grading take about as long as
generation (measured first), which is where a judge that runs programs or proofs stands. It waits without using the
processor. Both ways use the same engine, problems and lengths; the seeds differ, so that no cache helps.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvaluateConfig, GenerationConfig, TaskConfig
from megatron_mimo.eval.engines import LocalEngine
from megatron_mimo.eval.protocol import Graders
from megatron_mimo.eval.run import Pipeline, prepare


class SlowJudge:
    """Accepts what is boxed and right, after a while; `slots` at a time."""

    def __init__(self, slots: int, seconds: float) -> None:
        self._slots, self._seconds = asyncio.Semaphore(slots), seconds
        self.waited_seconds = 0.0

    async def reward(self, response: str, answer: str) -> float:
        async with self._slots:
            await asyncio.sleep(self._seconds)
            self.waited_seconds += self._seconds
        return float(response == f"\\boxed{{{answer}}}")


class NoMatter:
    """Every answer has something boxed, so that every one is judged."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.name, self.identity = engine.name, engine.identity

    async def answer(self, messages, sampling, seed):
        answer = await self._engine.answer(messages, sampling, seed)
        answer.text += "\\boxed{0}"
        return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=48)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    try:
        asyncio.run(measure(options))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


async def measure(options: argparse.Namespace) -> None:
    count = options.problems * options.repetitions
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_problems(scratch, options.problems)
        generation = GenerationConfig(template="plain", max_concurrent_requests=16)
        async with LocalEngine(options.model, "", generation) as engine:
            await one_run(engine, options, scratch, 0, SlowJudge(count, 0.0), True)  # warm-up
            generating = await one_run(engine, options, scratch, 1, SlowJudge(count, 0.0), True)
            seconds = generating * options.slots / count
            print(f"generation alone {generating:.1f} s; judge {options.slots} slots, {seconds:.2f} s an answer")
            print(f"{'round':>5} {'then grade':>11} {'streaming':>10} {'ratio':>6}")
            ratios = []
            for number in range(options.rounds):
                after, streamed = [
                    await one_run(
                        engine, options, scratch, 10 * (number + 1) + way, SlowJudge(options.slots, seconds), bool(way)
                    )
                    for way in (0, 1)
                ]
                ratios.append(after / streamed)
                print(f"{number:5} {after:10.1f}s {streamed:9.1f}s {ratios[-1]:6.2f}", flush=True)
            print(f"median ratio {sorted(ratios)[len(ratios) // 2]:.2f}")


def write_problems(folder: Path, count: int) -> None:
    lines = [f'{{"id": {i}, "problem": "Question: {11 + i}+{90 - i}=?", "answer": "101"}}' for i in range(count)]
    (folder / "math_500.jsonl").write_text("\n".join(lines) + "\n")


async def one_run(
    engine: LocalEngine, options: argparse.Namespace, scratch: Path, seed: int, judge: SlowJudge, streaming: bool
) -> float:
    """Seconds of a whole run whose answers are all new."""
    task = TaskConfig(task="math_500", repetitions=options.repetitions, max_tokens=options.max_tokens)
    config = EvaluateConfig(data=str(scratch), output=str(scratch / "out"), seed=seed, tasks=[task])
    (run,) = prepare(config, engine)
    with run.store:
        pipeline = Pipeline(
            NoMatter(engine),  # type: ignore[arg-type]
            Graders(math=judge),
            seed=seed,
            num_workers=16,
            streaming=streaming,
            say=lambda _: None,
        )
        start = time.perf_counter()
        await pipeline.run([run])
        return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
