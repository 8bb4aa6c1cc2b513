"""Queries -> responses -> verdicts -> documents (rejection sampling), resumable at every step.

`responses.jsonl` and `verdicts.jsonl` in the output folder are journals by `query#sample`: what was paid for is never
asked again. The shards are a function of the two and are written whole at the end.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from megatron_mimo.clients.endpoint import Completion, Endpoint, EndpointConfig, RequestFailed, Sampling, Usage
from megatron_mimo.clients.journal import Journal, read_records
from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.errors import require_at_least
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.shards import shard_path, write_documents
from megatron_mimo.data.synthesize.prompts import messages, training_text
from megatron_mimo.data.synthesize.queries import (
    STEM_DOMAINS,
    Query,
    analysis_queries,
    general_queries,
    nano_queries,
    problem_queries,
)  # fmt: skip
from megatron_mimo.data.synthesize.verify import (
    CodeVerifier,
    MathResponseVerifier,
    OpenVerifier,
    ResponseVerdict,
    Verifier,
    check_whole,
)
from megatron_mimo.data.synthesize.workers import VerifierPool
from megatron_mimo.platform.concurrency import for_each
from megatron_mimo.platform.files import write_json


@dataclass(kw_only=True)
class SynthesisConfig:
    """One strategy over one input."""

    RENAMED: ClassVar = {"verify_workers": "num_verify_workers", "verify_seconds": "verify_timeout_seconds"}
    output: str
    """Folder of journals, shards and `synthesis.json`; an existing one is continued."""
    strategy: Literal["analysis", "solution", "general"]
    input: str = "nano"
    """analysis: folder of tagged shards; solution, general: JSONL. `nano` stands for the generated problems."""
    endpoint: EndpointConfig | None = None
    """Without one, a query is answered by its own known solution: the offline source."""
    sampling: Sampling = field(default_factory=Sampling)
    responses_per_query: int = 0
    """Answers asked for each query; 0: 4 from an endpoint, and 1 where the known solution is the only answer."""
    keep_per_query: int = 1
    """At most so many verified responses of a query become documents."""
    min_reasoning_depth: float = 4.0
    """Of documents to analyse."""
    domains: list[str] = field(default_factory=lambda: list(STEM_DOMAINS))
    max_queries: int | None = None
    kinds: list[str] = field(default_factory=lambda: ["math", "code", "open"])
    """Queries of other kinds are left out."""
    source: str = "synthetic"
    """Source of the mixture that the documents belong to."""
    documents_per_shard: int = 10_000
    num_verify_workers: int = 1
    verify_timeout_seconds: float = 20.0
    """Time limit of one verification; then its process is killed."""

    def __post_init__(self) -> None:
        require_at_least(0, "synthesis", responses_per_query=self.responses_per_query)
        for name in ("keep_per_query", "documents_per_shard", "num_verify_workers", "max_queries"):
            require_at_least(1, "synthesis", **{name: vars(self)[name]})
        if self.input == "nano" and self.strategy != "solution":
            raise ConfigError("synthesis.input", self.input, "the generated problems are for strategy: solution")
        if self.endpoint is None and self.strategy != "solution":
            raise ConfigError(
                "synthesis.endpoint", None, f"strategy {self.strategy} needs a model: give endpoint.url and model"
            )
        if self.endpoint is None and self.responses_per_query > 1:
            way_out = (
                "without an endpoint a query has one known solution: leave this out, or give endpoint.url and model"
            )
            raise ConfigError("synthesis.responses_per_query", self.responses_per_query, way_out)
        self.responses_per_query = self.responses_per_query or (4 if self.endpoint else 1)


def synthesize(config: SynthesisConfig, verifiers: dict[str, Verifier] | None = None) -> Counter[str]:
    """Run the strategy; returns its counts, which stand in `synthesis.json` too.

    `verifiers` by kind of query (`math`, `code`, `open`) add to or replace the built-in ones; code runs in the judge.
    Requests without an answer are counted as `unanswered`, responses on which a verifier failed as `unverified`: the
    next run takes both up again.
    """
    folder = Path(config.output)
    known: dict[str, Verifier] = {"math": MathResponseVerifier(), "open": OpenVerifier(), "code": CodeVerifier()}
    known |= verifiers or {}
    queries = list(itertools.islice(_queries(config), config.max_queries))
    _check_same_run(config, folder)
    usage, unanswered = asyncio.run(_respond(queries, config, folder / "responses.jsonl"))
    _verify(queries, config, known, folder)
    counts = _write(queries, config, folder)
    counts["unanswered"] = unanswered
    write_json(folder / "synthesis.json", _summary(config, counts, usage, folder))
    return counts


def _check_same_run(config: SynthesisConfig, folder: Path) -> None:
    """Responses of another model or sampling must not end up among these: raises UserError."""
    path = folder / "run.json"
    identity = {"strategy": config.strategy, "input": config.input, "sampling": asdict(config.sampling)}
    identity["model"] = config.endpoint.model if config.endpoint else ""
    # As it is read back: JSON knows no tuples.
    identity = json.loads(json.dumps(identity))
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        # Settings that are newer than the folder had their default.
        usual = json.loads(json.dumps(asdict(type(config.sampling)())))
        before["sampling"] = usual | before.get("sampling", {})
        changed = [name for name, value in identity.items() if before.get(name) != value]
        if changed:
            raise UserError(f"{folder} holds responses made with another {changed[0]}: choose another synthesis.output")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)


def _queries(config: SynthesisConfig) -> Iterator[Query]:
    path = Path(config.input)
    if config.input == "nano":
        queries = nano_queries()
    elif config.strategy == "analysis":
        queries = analysis_queries(path, config.min_reasoning_depth, tuple(config.domains))
    else:
        queries = problem_queries(path) if config.strategy == "solution" else general_queries(path)
    return (query for query in queries if query.kind in config.kinds)


def _samples(queries: list[Query], config: SynthesisConfig) -> Iterator[tuple[str, Query, int]]:
    """Every `(id, query, sample)`: the first response to each query, then the second, ..."""
    for sample in range(config.responses_per_query):
        for query in queries:
            yield f"{query.id}#{sample}", query, sample


async def _respond(queries: list[Query], config: SynthesisConfig, path: Path) -> tuple[Usage, int]:
    """Fill the journal of responses."""
    with Journal(path) as journal:
        todo = ((name, query, sample) for name, query, sample in _samples(queries, config) if name not in journal.ids)
        if config.endpoint is None:
            for name, query, _ in todo:
                journal.append({"id": name, "text": query.solution, "finish_reason": "stop"})
            return Usage(), 0
        async with Endpoint(config.endpoint) as endpoint:
            return endpoint.usage, await _ask_all(todo, endpoint, config, journal)


async def _ask_all(
    todo: Iterator[tuple[str, Query, int]], endpoint: Endpoint, config: SynthesisConfig, journal: Journal
) -> int:
    """As many requests at a time as the endpoint takes; returns how many got no answer."""
    unanswered = 0

    async def ask(asked: tuple[str, Query, int]) -> None:
        nonlocal unanswered
        name, query, sample = asked
        try:
            completion = await endpoint.chat(messages(query, config.strategy), config.sampling, seed=sample)
            journal.append(_record(name, completion))
        except RequestFailed as error:
            unanswered += not error.final
            if error.final:
                journal.append({"id": name, "error": error.reason})

    await for_each(todo, ask, endpoint.config.max_concurrent_requests)
    return unanswered


def _record(name: str, completion: Completion) -> dict[str, Any]:
    return {
        "id": name,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
    }


def _verify(queries: list[Query], config: SynthesisConfig, verifiers: dict[str, Verifier], folder: Path) -> None:
    """Fill the journal of verdicts: first what every response must have, then the verifier of its kind."""
    responses = {record["id"]: record for record in read_records(folder / "responses.jsonl")}
    with Journal(folder / "verdicts.jsonl") as journal:
        waiting = []
        for name, query, _ in _samples(queries, config):
            if name in journal.ids or name not in responses:
                continue
            record = responses[name]
            verdict = (
                ResponseVerdict(False, record["error"])
                if "error" in record
                else check_whole(record["text"], record["finish_reason"])
            )
            if verdict.accepted:
                waiting.append((name, query, record["text"]))
            else:
                journal.append({"id": name, "accepted": False, "reason": verdict.reason})
        if not waiting:
            return
        with VerifierPool(verifiers, config.num_verify_workers, config.verify_timeout_seconds) as pool:
            verdicts = pool.verify_all((query, text) for _, query, text in waiting)
            for (name, _, _), verdict in zip(waiting, verdicts, strict=True):
                if not verdict.undecided:
                    journal.append({"id": name, "accepted": verdict.accepted, "reason": verdict.reason})


def _write(queries: list[Query], config: SynthesisConfig, folder: Path) -> Counter[str]:
    """Write the shards anew from the journals; the counts of what was kept and dropped."""
    counts: Counter[str] = Counter(queries=len(queries))
    documents = _documents(queries, config, folder, counts)
    index = 0
    while batch := list(itertools.islice(documents, config.documents_per_shard)):
        write_documents(shard_path(folder / "documents", index), batch)
        index += 1
    while (leftover := shard_path(folder / "documents", index)).exists():
        leftover.unlink()
        index += 1
    return counts


def _documents(queries: list[Query], config: SynthesisConfig, folder: Path, counts: Counter[str]) -> Iterator[Document]:
    responses = {record["id"]: record for record in read_records(folder / "responses.jsonl")}
    verdicts = {record["id"]: record for record in read_records(folder / "verdicts.jsonl")}
    for query in queries:
        kept: list[str] = []
        for sample in range(config.responses_per_query):
            name = f"{query.id}#{sample}"
            if name not in verdicts:
                counts["unverified"] += name in responses
                continue
            reason = _reason_to_drop(verdicts[name], responses[name], kept, config.keep_per_query)
            counts[f"dropped/{reason}" if reason else "kept"] += 1
            if not reason:
                kept.append(responses[name]["text"])
                yield _document(name, query, responses[name], config)
        counts["queries_solved"] += bool(kept)


def _reason_to_drop(verdict: dict[str, Any], response: dict[str, Any], kept: list[str], limit: int) -> str:
    if not verdict["accepted"]:
        return verdict["reason"]
    if response["text"] in kept:
        return "same as another"
    return "enough of the query" if len(kept) >= limit else ""


def _document(name: str, query: Query, response: dict[str, Any], config: SynthesisConfig) -> Document:
    made_by = config.endpoint.model if config.endpoint else "known solution"
    return Document(
        name,
        training_text(query, config.strategy, response["text"]),
        query.split,
        query.url,
        config.source,
        {"synthesis": {"strategy": config.strategy, "kind": query.kind, "category": query.category, "model": made_by}},
    )


def _summary(config: SynthesisConfig, counts: Counter[str], usage: Usage, folder: Path) -> dict[str, Any]:
    """Counts, this run's requests, and tokens and cost of all runs."""
    total = Usage(retries=usage.retries, errors=usage.errors)
    for record in read_records(folder / "responses.jsonl"):
        total.prompt_tokens += record.get("prompt_tokens", 0)
        total.completion_tokens += record.get("completion_tokens", 0)
    return {
        "counts": dict(sorted(counts.items())),
        "requests_this_run": usage.requests,
        "retries_this_run": usage.retries,
        "errors_this_run": usage.errors,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
        "cost": total.cost(config.endpoint) if config.endpoint else 0.0,
    }
