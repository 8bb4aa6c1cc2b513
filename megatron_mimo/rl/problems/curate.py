"""The curation of the report (section 3.1) step by step, from a raw file to problems for RL: files in, files out.

Every step reads a problem file and writes OUTPUT with what stays, OUTPUT's name + `.dropped.jsonl` with what goes and
why, and `.report.json` with the counts. Nothing is dropped without a reason, and a fault drops nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec

from megatron_mimo.clients.endpoint import Endpoint, EndpointConfig, Sampling
from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task
from megatron_mimo.judge.opening import open_judge
from megatron_mimo.platform.files import write_json
from megatron_mimo.reward.math_answer import MathVerifier
from megatron_mimo.reward.router import RewardRouter
from megatron_mimo.rl.problems.difficulty import DifficultyRules, why_drop, with_levels
from megatron_mimo.rl.problems.difficulty_config import DifficultyConfig
from megatron_mimo.rl.problems.problem import Problem, from_document, read_problems, to_document, write_problems
from megatron_mimo.rl.problems.readers import read
from megatron_mimo.rl.problems.rollouts import RolloutFile, joined, read_rollouts, roll_out

MAX_LISTED_FAULTS = 20


class DocumentStep(Protocol):
    """A pipeline step with its name: form, ngram_dedup, decontaminate, golden."""

    name: ClassVar[str]

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]: ...


class Sieve:
    """What one step keeps and drops, written side by side."""

    def __init__(self, output: Path, step: str) -> None:
        self.output, self.step = output, step
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._dropped: list[bytes] = []

    def drop(self, problem: Problem, reason: str) -> None:
        self.counts[f"dropped: {reason}"] += 1
        self._dropped.append(msgspec.json.encode({"step": self.step, "reason": reason, "problem": problem}))

    def fault(self, place: str, why: str) -> None:
        """Of a record that could not be read or judged: listed, and told from what was dropped."""
        self.counts["faults"] += 1
        self.faults.append(f"{place}: {why}")

    def finish(self, kept: Iterable[Problem], **more: Any) -> dict[str, Any]:
        """Write the three files; returns the report."""
        number = write_problems(self.output, kept)
        beside(self.output, ".dropped.jsonl").write_bytes(b"".join(line + b"\n" for line in self._dropped))
        report = {"step": self.step, "kept": number, **dict(sorted(self.counts.items())), **more}
        write_json(beside(self.output, ".report.json"), report | {"fault_list": self.faults[:MAX_LISTED_FAULTS]})
        return report


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def run_step(step: DocumentStep, problems: Iterable[Problem], output: Path) -> dict[str, Any]:
    """A pipeline step over problems: form, ngram_dedup, decontaminate, golden."""
    sieve = Sieve(output, step.name)
    task = Task(on_drop=lambda document, _, reason: sieve.drop(from_document(document), reason))

    def kept() -> Iterator[Problem]:
        documents: Iterator[Document] = (to_document(problem) for problem in problems)
        yield from (from_document(document) for document in step.run(documents, task))
        for fault in task.faults:
            sieve.fault(fault.place, fault.error)

    return sieve.finish(kept())


def read_raw(paths: list[Path], form: str, sieve_faults: list[tuple[str, str]]) -> Iterator[Problem]:
    """Problems of raw files in any of the readers' formats; ids that stand twice get the file's name."""
    seen: set[str] = set()
    for path in paths:
        for problem in read(path, form, lambda place, why: sieve_faults.append((place, why))):
            if problem.id in seen:
                problem.id = f"{path.stem}/{problem.id}"
            if problem.id in seen:
                raise UserError(f"{path}: problem id {problem.id!r} stands twice; give every problem an id of its own")
            seen.add(problem.id)
            yield problem


async def difficulty(source: Path, output: Path, config: DifficultyConfig) -> dict[str, Any]:
    """Roll all models out, then drop what is unsolved by the advanced and too easy for the trained one.

    Rollouts stay beside the output, a file for each model; a second call asks for what is missing alone.
    """
    problems = list(read_problems(source))
    models = [(config.trained, config.trained_sampling), *((one, config.advanced_sampling) for one in config.advanced)]
    files = [rollout_file(output, endpoint, place) for place, (endpoint, _) in enumerate(models)]
    counts: dict[str, dict[str, int]] = {}
    async with AsyncExitStack() as stack:
        math = stack.enter_context(MathVerifier(config.reward.num_math_workers, config.reward.math_timeout_seconds))
        judge = None
        if any(problem.kind == "code" for problem in problems):
            judge = await stack.enter_async_context(open_judge(config.reward.judge_urls, config.reward.local_judge))
        # `soft` runs every test: levels need them all.
        router = RewardRouter(math, judge, scheme="soft")
        for (endpoint, sampling), file in zip(models, files, strict=True):
            counts[file.path.name] = dict(await roll_out_model(problems, endpoint, sampling, file, router, config))
        counts["verifier"] = dict(math.counts)
    return decide(problems, files, output, config, counts)


def rollout_file(output: Path, endpoint: EndpointConfig, place: int) -> RolloutFile:
    role = "trained" if place == 0 else f"advanced{place}"
    return RolloutFile(beside(output, f".rollouts.{role}.jsonl"), endpoint.model)


async def roll_out_model(
    problems: list[Problem],
    endpoint: EndpointConfig,
    sampling: Sampling,
    file: RolloutFile,
    router: RewardRouter,
    config: DifficultyConfig,
) -> Counter[str]:
    async with Endpoint(endpoint) as chat:
        return await roll_out(
            problems,
            file,
            chat,
            router,
            num_rollouts=config.num_rollouts,
            sampling=sampling,
            instruction=lambda one: config.math_instruction if one.kind == "math" else config.code_instruction,
            max_open_problems=config.max_open_problems,
        )


def decide(
    problems: list[Problem], files: list[RolloutFile], output: Path, config: DifficultyConfig, counts: dict[str, Any]
) -> dict[str, Any]:
    """Keep or drop by the rollouts that are there; writes the files and returns the report."""
    sieve = Sieve(output, "difficulty")
    rules = DifficultyRules(num_rollouts=config.num_rollouts, max_math_pass_rate=config.max_math_pass_rate)
    trained, *advanced = files

    def kept() -> Iterator[Problem]:
        for problem in problems:
            own = trained.results(problem.id, config.num_rollouts)
            others = joined(file.results(problem.id, config.num_rollouts) for file in advanced) if advanced else None
            if not own.solved:
                sieve.fault(problem.id, "no rollout could be scored: kept, unmeasured")
            reason = why_drop(problem, own, others, rules)
            if own.solved:
                problem = msgspec.structs.replace(problem, pass_rate=sum(own.solved) / len(own.solved))
            if reason is None:
                yield problem
            else:
                sieve.drop(problem, reason)

    return sieve.finish(kept(), rollouts=counts)


def levels(source: Path, output: Path, rollouts: list[Path], scores: list[float]) -> dict[str, Any]:
    """Give every code problem the difficulty levels of its tests, from rollout files of `difficulty`."""
    if not rollouts:
        raise ConfigError("rollouts", [], "name the rollout files of the step `difficulty`")
    passed: dict[str, list[list[bool]]] = {}
    for path in rollouts:
        for rollout in read_rollouts(path):
            if rollout.solved is not None and rollout.passed:
                passed.setdefault(rollout.problem, []).append(rollout.passed)
    sieve = Sieve(output, "levels")

    def kept() -> Iterator[Problem]:
        for problem in read_problems(source):
            rows = [row for row in passed.get(problem.id, []) if len(row) == len(problem.tests)]
            if problem.kind == "code" and rows:
                problem = with_levels(problem, rows, scores)
                sieve.counts[f"problems with {max(problem.levels or [0]) + 1} levels"] += 1
            elif problem.kind == "code":
                sieve.fault(problem.id, "no rollout of its tests: kept without levels")
            yield problem

    return sieve.finish(kept())
