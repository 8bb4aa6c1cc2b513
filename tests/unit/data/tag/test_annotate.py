"""Annotation by a large model: what its answers may look like, and a run over a server that fails."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.clients.endpoint import EndpointConfig
from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.tag.annotate import AnnotationConfig, annotate, annotated_pages
from megatron_mimo.data.tag.prompts import MAX_PAGE_CHARACTERS, annotation_messages, parse_annotation
from megatron_mimo.data.tag.schema import DOMAINS, SCORES, TagsError
from support.chat_server import ChatServer, chat_server

GOOD = '{"knowledge_density": 4, "reasoning_depth": 5, "educational_value": 3, "domain": "mathematics", "kinds": []}'


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"<think>Maybe {{}} or {GOOD.replace('5', '1')}</think>\nHere it is: {GOOD} I hope that helps {{:",
        f"First draft {GOOD.replace('5', '2')}, corrected: {GOOD}",
        GOOD.replace("5", '"5/5"').replace("mathematics", "Mathematics").replace("[]", "null"),
        GOOD.replace("}", ', "reason": "a proof with {braces}"}'),
    ],
)
def test_answers_that_are_understood(answer: str) -> None:
    tags = parse_annotation(answer)
    assert (tags.domain, tags.reasoning_depth, tags.scores) == ("mathematics", 5, [4, 5, 3])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no JSON object"),
        ("I cannot label this.", "no JSON object"),
        (GOOD[:-1], "no JSON object"),
        (GOOD.replace("mathematics", "maths"), "unknown domain"),
        (GOOD.replace("5", "7"), "not a score"),
        (GOOD.replace("5", "true"), "not a score"),
        (GOOD.replace('"reasoning_depth": 5, ', ""), "reasoning_depth is missing"),
        (GOOD.replace("[]", '["spam"]'), "unknown kind"),
        (GOOD.replace("[]", "[1]"), "kinds"),
        (GOOD.replace('"mathematics"', "[]"), "domain"),
        ("{" * 100_000, "no JSON object"),
    ],
)
def test_answers_that_are_not(answer: str, reason: str) -> None:
    with pytest.raises(TagsError, match=reason):
        parse_annotation(answer)


def test_the_prompt_names_the_whole_schema_and_both_ends_of_a_long_page() -> None:
    text = annotation_messages("begin" + "x" * 100_000 + "end")[1]["content"]
    assert all(f"- {name}:" in text for name in [*DOMAINS, *SCORES])
    assert "begin" in text and "xend" in text and len(text) < MAX_PAGE_CHARACTERS + 5000


def config(folder: Path, server: ChatServer) -> AnnotationConfig:
    endpoint = EndpointConfig(
        url=server.url,
        model="m",
        max_concurrent_requests=3,
        first_delay_seconds=0.01,
        longest_delay_seconds=0.02,
        max_attempts=3,
    )
    return AnnotationConfig(documents="unused", output=str(folder / "annotations.jsonl"), endpoint=endpoint)


def answer(body: dict[str, Any]) -> str:
    return "no idea" if "page 7" in body["messages"][1]["content"] else GOOD


def test_run_resume_and_counts(tmp_path: Path) -> None:
    documents = [Document(f"d{i}", f"page {i}") for i in range(12)]
    with chat_server(ChatServer(answer, faults=[500, 429, 0, 413])) as server:
        settings = config(tmp_path, server)
        first = asyncio.run(annotate(documents[:8], settings))
        assert first["annotated"] == 6 and first["failed/no JSON object in the answer"] == 1
        assert first["failed/refused with 413"] == 1 and first["retries"] == 3 and first["prompt_tokens"] == 70
        with open(settings.output, "ab") as file:
            file.write(b'{"id": "d8", "te')  # the kill
        asked = len(server.bodies)
        second = asyncio.run(annotate(documents, settings))
        assert (second["skipped"], second["annotated"], len(server.bodies) - asked) == (8, 4, 4)
    pages = list(annotated_pages(Path(settings.output)))
    assert len(pages) == 10 and {page.tags.domain for page in pages} == {"mathematics"}
    records = [json.loads(line) for line in Path(settings.output).read_text().splitlines()]
    assert len({record["id"] for record in records}) == len(records) == 12


def test_an_endpoint_that_is_down_writes_nothing(tmp_path: Path) -> None:
    with chat_server(ChatServer(answer, faults=[503] * 6)) as server:
        settings = config(tmp_path, server)
        counts = asyncio.run(annotate([Document("a", "x"), Document("b", "y")], settings))
        assert counts["failed/no answer from the endpoint"] == 2 and not list(annotated_pages(Path(settings.output)))
        assert asyncio.run(annotate([Document("a", "x"), Document("b", "y")], settings))["annotated"] == 2


def test_a_wrong_key_stops_the_run(tmp_path: Path) -> None:
    with chat_server(ChatServer(answer, faults=[403] * 99)) as server, pytest.raises(UserError, match="403"):
        asyncio.run(annotate([Document(str(i), "x") for i in range(50)], config(tmp_path, server)))
