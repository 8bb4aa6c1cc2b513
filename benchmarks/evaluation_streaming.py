"""Grading while others generate, against generating first and grading afterwards: wall-clock on one vLLM engine.

    python benchmarks/evaluation_streaming.py --model MODEL_DIR [--problems 48] [--repetitions 2] [--rounds 5]

The judge is slow on purpose: `--slots` answers at a time, each for as long as makes grading take about as long as
generation (measured first), which is where a judge that runs programs or proofs stands; the ratio can then be 2 at
most. It waits without using the processor. In every round both ways draw the same answers (same seeds, nothing stored)
with the same judge; which way goes first alternates. Shown beside the ratio: the tokens that both ways drew, how long
the model took while nothing was graded, and what the ratio would be if one of the two were hidden entirely behind the
other.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvalGenerationConfig, EvaluateConfig, TaskConfig
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
    """Every answer has something boxed, so that every one is judged; counts tokens and the last answer's time."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.name, self.identity = engine.name, engine.identity
        self.tokens, self.last_answer = 0, 0.0

    async def answer(self, messages, sampling, seed):
        answer = await self._engine.answer(messages, sampling, seed)
        answer.text += "\\boxed{0}"
        self.tokens += answer.completion_tokens
        self.last_answer = time.perf_counter()
        return answer


@dataclass(frozen=True)
class Measured:
    """One whole run."""

    seconds: float
    generation_seconds: float
    """Until the last answer was drawn."""
    tokens: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=48)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
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
        generation = EvalGenerationConfig(template="plain", max_concurrent_requests=16)
        async with LocalEngine(options.model, "", generation) as engine:
            for _ in range(2):  # the first one warms up
                alone = await one_run(engine, options, scratch, "alone", 0, SlowJudge(count, 0.0), True)
            seconds = alone.generation_seconds * options.slots / count
            grading = seconds * count / options.slots
            print(f"generation alone {alone.generation_seconds:.1f} s, {alone.tokens:,} tokens of {count} answers")
            print(f"judge: {options.slots} slots, {seconds:.2f} s an answer, {grading:.1f} s together")
            print(f"{'round':>5} {'then grade':>11} {'streaming':>10} {'ratio':>6} {'tokens':>15} {'hidden':>7}")
            ratios = []
            for number in range(1, options.rounds + 1):
                ways = (False, True) if number % 2 else (True, False)
                found = {}
                for streaming in ways:
                    judge = SlowJudge(options.slots, seconds)
                    found[streaming] = await one_run(
                        engine, options, scratch, f"{number}-{streaming}", number, judge, streaming
                    )
                after, streamed = found[False], found[True]
                ratios.append(after.seconds / streamed.seconds)
                hidden = after.seconds / max(after.generation_seconds, grading)
                print(
                    f"{number:5} {after.seconds:10.1f}s {streamed.seconds:9.1f}s {ratios[-1]:6.2f} "
                    f"{after.tokens:7,} {streamed.tokens:7,} {hidden:7.2f}",
                    flush=True,
                )
            print(f"ratio {min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f}")


def write_problems(folder: Path, count: int) -> None:
    lines = [f'{{"id": {i}, "problem": "Question: {11 + i}+{90 - i}=?", "answer": "101"}}' for i in range(count)]
    (folder / "math_500.jsonl").write_text("\n".join(lines) + "\n")


async def one_run(
    engine: LocalEngine, options: argparse.Namespace, scratch: Path, name: str, seed: int, judge: SlowJudge,
    streaming: bool,
) -> Measured:  # fmt: skip
    """A whole run whose answers are all new: it has its own output folder."""
    task = TaskConfig(task="math_500", repetitions=options.repetitions, max_new_tokens=options.max_tokens)
    with tempfile.TemporaryDirectory(prefix=name, dir=scratch) as output:
        config = EvaluateConfig(data=str(scratch), output=output, seed=seed, tasks=[task])
        (run,) = prepare(config, engine)
        asked = NoMatter(engine)
        with run.store:
            pipeline = Pipeline(
                asked,  # type: ignore[arg-type]
                Graders(math=judge),
                seed=seed,
                num_workers=16,
                streaming=streaming,
                say=lambda _: None,
            )
            start = time.perf_counter()
            await pipeline.run([run])
            return Measured(time.perf_counter() - start, asked.last_answer - start, asked.tokens)


if __name__ == "__main__":
    sys.exit(main())
