"""Answers and grades on the disk, by (model, task, settings): what is there is never asked for again.

    OUTPUT/cache/MODEL/TASK-KEY.json            what the key stands for
    OUTPUT/cache/MODEL/TASK-KEY.samples.jsonl   every answer, appended as it comes
    OUTPUT/cache/MODEL/TASK-KEY-GRADER.grades.jsonl

More repetitions, a limit lifted or another grader (`lcb-compat`) continue with the same answers.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from megatron_mimo.clients.endpoint import content_text
from megatron_mimo.clients.journal import Journal, read_records
from megatron_mimo.config.eval import EvalGenerationConfig, TaskConfig
from megatron_mimo.data.chat.system_prompt import system_message
from megatron_mimo.eval.engines import digest
from megatron_mimo.eval.protocol import Benchmark, EvalProblem
from megatron_mimo.platform.files import write_json, write_text


def sample_key(
    model_identity: str, config: TaskConfig, generation: EvalGenerationConfig, seed: int, problems: list[EvalProblem]
) -> dict[str, Any]:
    """Everything that decides an answer; `problems` are all of the task's, before any limit."""
    return {
        "model": model_identity,
        "task": config.task,
        "prompts": digest(*map(asked, problems)),
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_tokens": config.max_new_tokens,
        "stop": config.stop,
        "seed": seed,
        "template": generation.template,
        "system_message": system_message(generation.system_prompt),
        "max_model_len": generation.seq_length,
    }


def asked(problem: EvalProblem) -> str:
    """What the model sees of a problem, and where its answer ends."""
    if problem.prompt is None:
        return json.dumps([problem.id, problem.messages])
    return json.dumps([problem.id, problem.prompt, problem.stop, problem.pairs])


def grade_key(task: Benchmark, config: TaskConfig, problems: list[EvalProblem]) -> str:
    """Everything else that decides a grade: references, the grader and its version."""
    references = (repr([problem.reference, problem.options]) for problem in problems)
    return digest(task.version, config.runner, *references)[:8]


@dataclass
class Store:
    """The two journals of a task of a run, opened by a `with` block."""

    base: Path
    key: dict[str, Any]
    grader: str
    samples: Journal = field(init=False)
    grades: Journal = field(init=False)
    problems: Path = field(init=False)
    """What was asked, for pages that compare models."""
    asked: list[EvalProblem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.samples = Journal(self.base.with_name(f"{self.base.name}.samples.jsonl"))
        self.grades = Journal(self.base.with_name(f"{self.base.name}-{self.grader}.grades.jsonl"))
        self.problems = self.base.with_name(f"{self.base.name}.problems.jsonl")

    def __enter__(self) -> Self:
        self.samples.__enter__()
        try:
            self.grades.__enter__()
        except BaseException:
            self.samples.__exit__()
            raise
        write_json(self.base.with_name(f"{self.base.name}.json"), self.key)
        rows = [{"id": one.id, "asked": shown_question(one), "reference": one.shown} for one in self.asked]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(self.problems, lines, errors="replace")
        return self

    def __exit__(self, *_: object) -> None:
        self.grades.__exit__()
        self.samples.__exit__()

    def read_samples(self) -> Iterator[dict[str, Any]]:
        """Answers as they came; a list of parts, which earlier versions stored as such, is read as its text."""
        for record in read_records(self.samples.path):
            yield record | {"response": content_text(record["response"])[0]}

    def read_grades(self) -> dict[str, dict[str, Any]]:
        """Grades by `grade_id`."""
        return {record["id"]: record for record in read_records(self.grades.path)}


def grade_id(answer_id: str, response: str) -> str:
    """A grade belongs to a text: an answer that is drawn again is graded again."""
    return f"{answer_id}@{digest(response.encode('utf-8', 'replace').decode())}"


def shown_question(problem: EvalProblem) -> str:
    """What the model is asked, as pages show it."""
    return problem.prompt or "\n\n".join(message["content"] for message in problem.messages)


def open_store(output: Path, key: dict[str, Any], grader: str, problems: list[EvalProblem]) -> Store:
    """The store of a key under `output`; its folder is made when it is entered."""
    name = f"{key['task'].replace(':', '_')}-{digest(json.dumps(key, sort_keys=True))[:12]}"
    return Store(output / "cache" / key["model"] / name, key, grader, asked=problems)
