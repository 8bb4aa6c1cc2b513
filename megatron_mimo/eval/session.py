"""An evaluation from start to end: engine and graders made, results and report written; small ones inside of a loop.

Everything that can be wrong with data and settings is found before the model is loaded.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvaluateConfig, TaskConfig
from megatron_mimo.eval import harness
from megatron_mimo.eval.engines import Engine, make_engine
from megatron_mimo.eval.protocol import Graders
from megatron_mimo.eval.registry import HARNESS
from megatron_mimo.eval.run import Pipeline, Say, TaskRun, prepare
from megatron_mimo.eval.samples_report import write_report
from megatron_mimo.eval.summary import summarize
from megatron_mimo.judge.opening import open_judge
from megatron_mimo.platform.files import write_json
from megatron_mimo.reward.math_answer import MathVerifier


async def evaluate_and_write(config: EvaluateConfig, say: Say = print) -> tuple[dict[str, Any], Path]:
    """Evaluate `config.model`; returns the results and the report's page, both written under `config.output`."""
    output = Path(config.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {output}: {error.strerror}; choose another --output") from error
    engine = make_engine(config)
    results, runs = await evaluate(config, engine, say)
    write_json(output / "results.json", results)
    return results, write_report(output / "report", results, runs)


async def evaluate(config: EvaluateConfig, engine: Engine, say: Say = print) -> tuple[dict[str, Any], list[TaskRun]]:
    """Evaluate an engine that is not yet entered. Raises UserError; what was answered before is stored."""
    own, foreign = split(config)
    runs = prepare(own, engine) if own.tasks or not foreign else []
    foreign = harness.check(foreign, config.skip_missing, say)
    async with AsyncExitStack() as stack:
        stores = stack.enter_context(ExitStack())
        for run in runs:
            stores.enter_context(run.store)
        graders = await stack.enter_async_context(
            make_graders(config, {need for run in runs for need in run.task.needs})
        )
        if foreign or any(run.missing() for run in runs):
            await stack.enter_async_context(engine)
        generation = config.generation
        pipeline = Pipeline(
            engine,
            graders,
            seed=config.seed,
            num_workers=generation.max_concurrent_requests,
            max_waiting_grades=generation.max_waiting_grades,
            say=say,
        )
        await pipeline.run(runs)
        results = summarize(config, engine, runs)
        for task in foreign:
            results["tasks"][task.title] = await harness.run_task(task, engine, config)
        return results, runs


def split(config: EvaluateConfig) -> tuple[EvaluateConfig, list[TaskConfig]]:
    """Our own tasks, and those of lm-evaluation-harness."""
    foreign = [task for task in config.tasks if task.task.startswith(HARNESS)]
    return replace(config, tasks=[task for task in config.tasks if task not in foreign]), foreign


@asynccontextmanager
async def make_graders(config: EvaluateConfig, needs: Iterable[str]) -> AsyncIterator[Graders]:
    """The graders that the tasks need, closed at the end. Raises SandboxUnavailable where programs cannot be held."""
    needs = set(needs)
    async with AsyncExitStack() as stack:
        math = stack.enter_context(MathVerifier(config.num_math_workers)) if "math" in needs else None
        judge = None
        if "judge" in needs:
            judge = await stack.enter_async_context(open_judge(config.judge_urls, config.judge))
        yield Graders(math=math, judge=judge)


async def score_now(
    config: EvaluateConfig, engine: Engine, graders: Graders, say: Say = lambda _: None
) -> dict[str, dict[str, float | None]]:
    """A small evaluation inside of a loop, on an engine and graders that stay open: task -> its figures.

    The engine's `identity` must change with its weights (a step's number will do), or stored answers are taken for new.
    """
    runs = prepare(config, engine)
    with ExitStack() as stores:
        for run in runs:
            stores.enter_context(run.store)
        workers = config.generation.max_concurrent_requests
        await Pipeline(engine, graders, seed=config.seed, num_workers=workers, say=say).run(runs)
        tasks = summarize(config, engine, runs)["tasks"]
    shown = ("score", "low", "high", "truncated", "without_answer", "in_format", "mean_tokens")
    return {name: {key: task[key] for key in shown} for name, task in tasks.items()}
