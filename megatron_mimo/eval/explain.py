"""How a score moves with the way that a model is asked: template, system message, stop strings, examples, length.

One question set, one model, one setting changed at a time. The first row is the question as base models are asked it
(`base_TASK`); every other row is compared with it, problem by problem. Answers go to the ordinary cache: a row that an
evaluation has asked before is not asked again.
"""

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from megatron_mimo.config import ConfigError
from megatron_mimo.config.eval import EvalGenerationConfig, EvaluateConfig, TaskConfig
from megatron_mimo.eval.compare import compare_task
from megatron_mimo.eval.engines import BASE, Engine
from megatron_mimo.eval.registry import file_tasks, forms
from megatron_mimo.eval.run import Pipeline, Say, TaskRun, prepare
from megatron_mimo.eval.session import make_graders
from megatron_mimo.eval.summary import task_results
from megatron_mimo.platform.page import page, section, table

HELPFUL = "You are a helpful assistant."
FEW_SHOTS = 4
SHORTER = (4, 16)
"""Fractions of the length that are tried."""


@dataclass(frozen=True, kw_only=True)
class WayToAsk:
    """One way to ask."""

    name: str
    setting: str
    """As it is written in a configuration."""
    task: TaskConfig
    generation: dict[str, Any] = field(default_factory=dict)

    @property
    def is_chat(self) -> bool:
        """Whether the model needs a chat template."""
        return not self.task.task.startswith(BASE) and self.generation.get("template") != "plain"


def explainable() -> list[str]:
    """Tasks that chats and base models can be asked alike."""
    return [name for name in file_tasks() if f"{BASE}{name}" in forms() and forms()[f"{BASE}{name}"].inner]


def variants(asked: TaskConfig) -> list[WayToAsk]:
    """All ways to ask a task of chats; raises ConfigError for one that base models are not asked."""
    if asked.task not in explainable():
        raise ConfigError("task", asked.task, f"is one of {', '.join(explainable())}")
    base = replace(asked, task=f"{BASE}{asked.task}")
    plain, empty = {"template": "plain"}, {"template": "chat", "system_prompt": ""}
    chats = [
        ("chat template, empty system message", "generation.system_prompt=''", empty),
        ("chat template, its own system message", "generation.system_prompt=null", empty | {"system_prompt": None}),
        (f"chat template, {HELPFUL!r}", "generation.system_prompt=...", empty | {"system_prompt": HELPFUL}),
        ("the chat's question as plain text", "generation.template=plain", plain),
    ]
    shorter = {max(1, asked.max_new_tokens // part) for part in SHORTER} - {asked.max_new_tokens}
    examples = replace(base, num_shots=FEW_SHOTS)
    found = [
        WayToAsk(name="as a base model", setting=f"task={base.task}", task=base),
        WayToAsk(name="without stop strings", setting="stop=[]", task=replace(base, stop=[])),
        WayToAsk(name=f"{FEW_SHOTS} worked examples", setting=f"num_shots={FEW_SHOTS}", task=examples),
        *(WayToAsk(name=name, setting=key, task=asked, generation=change) for name, key, change in chats),
        *(
            WayToAsk(name=f"{n} tokens", setting=f"max_new_tokens={n}", task=replace(base, max_new_tokens=n))
            for n in sorted(shorter, reverse=True)
        ),
        WayToAsk(
            name="greedy", setting="temperature=0", task=replace(base, temperature=0.0, repetitions=1)
        ),
    ]  # fmt: skip
    return [replace(one, task=replace(one.task, name=one.name)) for one in found]


class AdjustableEngine(Engine, Protocol):
    """An engine that can be asked in several ways while it runs."""

    @property
    def has_template(self) -> bool:
        """Whether it can be asked as a chat."""
        ...

    def asked_as(self, config: EvalGenerationConfig) -> Engine:
        """The same running model, asked with another template and system message."""
        ...


async def explain(
    config: EvaluateConfig, asked: TaskConfig, engine: AdjustableEngine, say: Say = print
) -> dict[str, Any]:
    """Ask every variant; returns `{"model", "task", "rows"}`, a row's results under `results`.

    `engine` is not yet entered. Raises UserError as an evaluation; what was answered is stored.
    """
    chosen = [one for one in variants(asked) if engine.has_template or not one.is_chat]
    if not engine.has_template:
        say("the model has no chat template: rows with one are left out")
    rows = []
    async with AsyncExitStack() as stack:
        runs = [(one, *prepared(config, one, engine, say if place == 0 else lambda _: None))
                for place, one in enumerate(chosen)]  # fmt: skip
        stores = stack.enter_context(ExitStack())
        for _, _, run in runs:
            stores.enter_context(run.store)
        needs = {need for _, _, run in runs for need in run.task.needs}
        graders = await stack.enter_async_context(make_graders(config, needs))
        if any(run.missing() for _, _, run in runs):
            await stack.enter_async_context(engine)
        for variant, settings, run in runs:
            say(f"{variant.name} ({variant.setting})")
            workers = config.generation.max_concurrent_requests
            asking = engine.asked_as(settings.generation)
            await Pipeline(asking, graders, seed=config.seed, num_workers=workers, say=say).run([run])
            results = task_results(run, config.generation)
            rows.append({"name": variant.name, "setting": variant.setting, "results": results})
    return {"model": engine.name, "identity": engine.identity, "task": asked.task, "rows": rows}


def prepared(
    config: EvaluateConfig, variant: WayToAsk, engine: AdjustableEngine, say: Say
) -> tuple[EvaluateConfig, TaskRun]:
    """The variant's settings and its run. Stores of equal keys are one file: no two variants share one."""
    settings = replace(config, tasks=[variant.task], generation=replace(config.generation, **variant.generation))
    (run,) = prepare(settings, engine.asked_as(settings.generation), say)
    return settings, run


def compared(explained: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for the terminal and the page: score, difference to the first row, what qualifies it."""
    first = explained["rows"][0]["results"]
    for row in explained["rows"]:
        results = row["results"]
        cells: dict[str, Any] = {"asked": row["name"], "setting": row["setting"], "answers": results["answers"]}
        if results["score"] is None:
            yield cells | {"score": None}
            continue
        pair = compare_task(row["name"], first, results)
        found = {key: pair.get(key) for key in ("difference", "low", "high", "p_value")}
        shares = {key: round(100 * results[key], 1) for key in ("score", "truncated", "without_answer")}
        yield cells | {"score": shares["score"], **found, "truncated": shares["truncated"],
                       "no answer": shares["without_answer"], "tokens": round(results["mean_tokens"])}  # fmt: skip


def text(explained: dict[str, Any]) -> str:
    """The table for the terminal; percentages but for p and tokens."""
    lines = [f"{'asked':42} {'score':>6} {'diff':>7} {'95 % interval':>16} {'p':>7} {'truncated':>9} {'no answer':>9} "
             f"{'tokens':>7}"]  # fmt: skip
    for row in compared(explained):
        if row["score"] is None:
            lines.append(f"{row['asked']:42} no answers")
            continue
        interval = f"{row['low']:+.1f} to {row['high']:+.1f}" if row["low"] is not None else ""
        lines.append(
            f"{row['asked']:42} {row['score']:6.1f} {row['difference']:+7.1f} {interval:>16} {row['p_value']:7.4f} "
            f"{row['truncated']:9.1f} {row['no answer']:9.1f} {row['tokens']:7}"
        )
    return "\n".join(lines)


def explained_page(explained: dict[str, Any]) -> str:
    """The same as a page, with examples of answers that could not be read."""
    rows = [{key: "-" if value is None else value for key, value in row.items()} for row in compared(explained)]
    examples = [
        {"asked": row["name"], "problem": one["id"], "verdict": one["verdict"], "the answer ends in": one["end"]}
        for row in explained["rows"]
        for one in row["results"]["unreadable"][:2]
    ]
    title = f"{explained['task']}: how the score of {explained['model']} moves"
    note = "Percent; differences to the first row, problem by problem, with 95 % intervals and a sign-flip test's p."
    parts = [f"<h1>{title}</h1>", section("One setting changed at a time", table(rows), note=note)]
    return page(title, [*parts, section("Answers without a box, for example", table(examples)) if examples else ""])


def output_files(output: str) -> tuple[Path, Path]:
    """Where figures and page go."""
    return Path(output) / "explain.json", Path(output) / "explain.html"
