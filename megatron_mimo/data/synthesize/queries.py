"""What is asked: one query a document, a problem or a line, and the nano problems that need no model.

A problem is a line `{"id", "prompt", "kind": "math"|"code", "answer"|"tests"}`; a general query `{"id", "prompt",
"category"}`.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Split
from megatron_mimo.data.nano import corpus_arithmetic
from megatron_mimo.data.nano.corpus_synthetic import synthetic_documents
from megatron_mimo.data.pipeline.shards import read_documents, shard_paths
from megatron_mimo.data.tag.schema import TagsError, tags_from_json

Strategy = Literal["analysis", "solution", "general"]
Kind = Literal["math", "code", "open"]
STEM_DOMAINS = ("mathematics", "code", "science", "engineering")


@dataclass
class Query:
    """One text to ask about, and what its answer is checked against."""

    id: str
    prompt: str
    """The problem, the request, or the document to analyse."""
    kind: Kind = "open"
    answer: str = ""
    """Of `math`: the gold answer."""
    tests: list[Any] = field(default_factory=list)
    """Of `code`: what a judge runs."""
    category: str = ""
    solution: str = ""
    """A known good response: what the offline source answers with."""
    url: str = ""
    split: Split = "train"


def analysis_queries(
    folder: Path, min_reasoning_depth: float, domains: tuple[str, ...] = STEM_DOMAINS
) -> Iterator[Query]:
    """The documents of a shard folder that are tagged as STEM and deep enough; untagged ones raise UserError."""
    paths = shard_paths(folder)
    if not paths:
        raise UserError(f"no documents in {folder}: point input at a folder of shards with tags")
    for document in itertools.chain.from_iterable(map(read_documents, paths)):
        try:
            tags = tags_from_json(document.metadata.get("tags"))
        except TagsError as error:
            raise UserError(f"{document.id} in {folder} has no tags ({error}): run the step `tag` first") from error
        if tags.domain in domains and tags.reasoning_depth >= min_reasoning_depth:
            yield Query(document.id, document.text, category=tags.domain, url=document.url, split=document.split)


def problem_queries(path: Path) -> Iterator[Query]:
    """Mathematics and code problems of a JSONL file; raises UserError naming the line for what is none."""
    for place, record in _lines(path):
        kind = record.get("kind")
        if kind not in ("math", "code"):
            raise UserError(f"{place}: kind is {kind!r}, expected math or code")
        wanted = "answer" if kind == "math" else "tests"
        if not record.get(wanted):
            raise UserError(f"{place}: a {kind} problem needs {wanted}")
        yield Query(
            record["id"],
            record["prompt"],
            kind,
            answer=str(record.get("answer", "")),
            tests=record.get("tests", []),
            solution=record.get("solution", ""),
        )


def general_queries(path: Path, first_category: str = "creative_writing") -> Iterator[Query]:
    """General requests of a JSONL file, those of `first_category` before all others."""
    queries = [Query(record["id"], record["prompt"], category=record.get("category", "")) for _, record in _lines(path)]
    yield from sorted(queries, key=lambda query: query.category != first_category)


def nano_queries() -> Iterator[Query]:
    """Generated problems with known solutions: arithmetic to be verified, small programs with their tests."""
    for problem in corpus_arithmetic.problems():
        if not problem.held_out:
            yield Query(
                problem.id, problem.prompt.strip(), "math", answer=str(problem.answer), solution=problem.solution
            )
    for document in synthetic_documents():
        header, _, rest = document.text.partition("\n")
        if header.startswith("Task:") and document.split == "train":
            tests = [line for line in rest.splitlines() if line.startswith("assert ")]
            program = "\n".join(line for line in rest.splitlines() if not line.startswith("assert "))
            yield Query(document.id, header, "code", tests=tests, solution=f"```python\n{program}\n```")


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """`(place, record)` of a JSONL file with unique ids and prompts."""
    seen: set[str] = set()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        place = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{place} is not JSON: {error}") from error
        if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("id", "prompt")):
            raise UserError(f'{place}: expected an object with the texts "id" and "prompt"')
        if record["id"] in seen:
            raise UserError(f"{place}: the id {record['id']} stands twice")
        seen.add(record["id"])
        yield place, record
