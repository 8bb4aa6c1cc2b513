"""Answers of a model, kept one by one: the server here misbehaves, and runs are stopped and taken up again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.cli import self_distill as command
from megatron_mimo.clients.endpoint import EndpointConfig, Sampling
from megatron_mimo.config import UserError
from megatron_mimo.serve.self_distill import (
    ANSWERS,
    JOURNAL,
    SelfDistillConfig,
    fingerprint,
    prompt_messages,
    self_distill,
)
from support.chat_server import ChatServer, chat_server


def prompts(folder: Path, count: int = 6) -> str:
    """Of three kinds: a prompt, a conversation with its answer, one with a system message and two turns."""
    records: list[dict[str, Any]] = []
    for number in range(count):
        user = {"role": "user", "content": f"question {number}"}
        answer = {"role": "assistant", "content": "an answer of someone else"}
        records.append(
            [
                {"prompt": f"question {number}"},
                {"messages": [user, answer]},
                {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "hi"}, answer, user]},
            ][number % 3]
        )
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in [*records, records[0]]))
    return str(path)


def config(server: ChatServer, folder: Path, **settings: Any) -> SelfDistillConfig:
    endpoint = EndpointConfig(
        url=server.url,
        model="m",
        max_attempts=2,
        first_delay_seconds=0.01,
        max_concurrent_requests=1 if server.faults else 3,  # one at a time, faults hit the same requests every time
    )
    usual: dict[str, Any] = {
        "prompts": [prompts(folder)],
        "output": str(folder / "out"),
        "model": "mine",
        "endpoint": endpoint,
    }
    return SelfDistillConfig(**usual | settings)


def counted(**found: int) -> dict[str, int]:
    """One of the prompts is there twice."""
    return {"answers": 0, "cut": 0, "refused": 0, "unanswered": 0, "repeated": 1} | found


def own_words(body: dict[str, Any]) -> str:
    return f"my answer to {body['messages'][-1]['content']}, seed {body['seed']}"


def answers(folder: Path) -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"] for line in (folder / "out" / ANSWERS).read_text().splitlines()]


def test_every_prompt_is_answered_by_the_model_itself(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    with chat_server(ChatServer(own_words)) as server:
        asked = config(server, tmp_path, samples_per_prompt=2, sampling=Sampling(temperature=0.25, top_p=0.5))
        counts = self_distill(asked, lambda done, wanted: reports.append((done, wanted)))
    assert counts == counted(answers=12)
    found = answers(tmp_path)
    for place, messages in enumerate(found):
        sample, number = divmod(place, 6)
        assert messages[-1] == {"role": "assistant", "content": f"my answer to question {number}, seed {sample}"}
        assert messages[-2] == {"role": "user", "content": f"question {number}"}
        assert len(messages) == (5 if number % 3 == 2 else 2)
    assert not any("someone else" in messages[-1]["content"] for messages in found)
    assert all((body["temperature"], body["top_p"]) == (0.25, 0.5) for body in server.bodies)
    assert reports[-1] == (12, 12) and len(server.bodies) == 12


def test_a_run_goes_on_where_it_was_and_asks_nothing_twice(tmp_path: Path) -> None:
    with chat_server(ChatServer(own_words, faults=[500] * 8)) as server:
        first = self_distill(config(server, tmp_path))
    assert first["unanswered"] == 4 and first["answers"] == 2 == len(answers(tmp_path))
    journal = tmp_path / "out" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-10])  # killed while it wrote
    with chat_server(ChatServer(own_words)) as server:
        second = self_distill(config(server, tmp_path))
        assert second == counted(answers=6)
        assert len(server.bodies) == 5
        assert self_distill(config(server, tmp_path)) == second and len(server.bodies) == 5
    assert [messages[-2]["content"] for messages in answers(tmp_path)] == [f"question {n}" for n in range(6)]


def test_answers_of_another_model_or_sampling_do_not_mix(tmp_path: Path) -> None:
    with chat_server(ChatServer(own_words)) as server:
        self_distill(config(server, tmp_path))
        others = {"model": "other", "weights": "trained on", "sampling": Sampling(top_p=0.1)}
        for name, value in others.items():
            with pytest.raises(UserError, match=f"another {name}"):
                self_distill(config(server, tmp_path, **{name: value}))


def test_further_training_makes_another_model(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"header" + bytes(2_000_000))
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    weights.write_bytes(b"header" + bytes(1000) + b"1" + bytes(1_998_999))
    assert fingerprint(tmp_path) != before


def test_refused_prompts_are_counted_and_not_asked_again(tmp_path: Path) -> None:
    with chat_server(ChatServer(own_words, faults=[400])) as server:
        assert self_distill(config(server, tmp_path)) == {
            "answers": 5,
            "cut": 0,
            "refused": 1,
            "unanswered": 0,
            "repeated": 1,
        }
        assert self_distill(config(server, tmp_path))["refused"] == 1 and len(server.bodies) == 6


def test_answers_that_were_cut_are_left_out_unless_wanted(tmp_path: Path) -> None:
    with chat_server(ChatServer(own_words)) as server:
        self_distill(config(server, tmp_path))
        journal = tmp_path / "out" / JOURNAL
        records = [json.loads(line) for line in journal.read_text().splitlines()]
        records[2]["finish_reason"] = "length"
        journal.write_text("".join(json.dumps(record) + "\n" for record in records))
        assert self_distill(config(server, tmp_path)) == {
            "answers": 5,
            "cut": 1,
            "refused": 0,
            "unanswered": 0,
            "repeated": 1,
        }
        assert self_distill(config(server, tmp_path, keep_cut=True))["answers"] == 6 == len(answers(tmp_path))


@pytest.mark.parametrize(
    "record",
    [
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]},
        {"messages": "text"},
        {"text": "a"},
        ["a"],
        ValueError("no JSON"),
    ],
)
def test_what_asks_nothing_is_refused_with_its_place(record: Any) -> None:
    with pytest.raises(UserError, match="file:7"):
        prompt_messages("file:7", record)


def test_the_command_asks_a_running_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = prompts(tmp_path), str(tmp_path / "out")
    with chat_server(ChatServer(own_words)) as server:
        code = command.main([path, "--model", "m", "--output", output, "--url", server.url, "--max-new-tokens", "9"])
    assert code == 0 and len(answers(tmp_path)) == 6
    assert {(body["model"], body["max_tokens"]) for body in server.bodies} == {("m", 9)}
    said = capsys.readouterr()
    assert "6 answers" in said.out and "6 of 6 answered" in said.err
    assert command.main([str(tmp_path / "none.jsonl"), "--model", "m", "--output", output, "--url", server.url]) == 2


def test_a_server_is_started_only_for_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, output, started = prompts(tmp_path), str(tmp_path / "out"), []
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with chat_server(ChatServer(own_words)) as server:

        @contextmanager
        def own_server(folder: Path, output: Path) -> Iterator[tuple[str, str]]:
            started.append(folder)
            yield server.url, "mimo"

        monkeypatch.setattr(command, "own_server", own_server)
        for samples in (1, 1, 2):
            arguments = [path, "--model", str(tmp_path), "--output", output, "--samples", str(samples)]
            assert command.main(arguments) == 0
    assert len(started) == 2 and len(answers(tmp_path)) == 12 and len(server.bodies) == 12
    assert {body["model"] for body in server.bodies} == {"mimo"}
