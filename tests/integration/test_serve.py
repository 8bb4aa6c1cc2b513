"""vLLM on models whose every token and draft is known: counters of drafts, the answer's reasoning part."""

import io
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from megatron_mimo.platform.network import free_port
from megatron_mimo.serve.chat import converse
from megatron_mimo.serve.chat_client import ChatForm, find_model, stream
from megatron_mimo.serve.chat_lines import PlainLines
from megatron_mimo.serve.openai_server import complete, running_server
from megatron_mimo.serve.speculative import vllm_environment
from megatron_mimo.serve.vllm_engine import PromptGroup, generate
from support.known_models import ANSWER, OTHER, constant_model, reciting_or_constant_model, undecided_model
from support.launch import ROOT
from support.needs import needs
from support.patience import patience

needs("vllm")
pytestmark = pytest.mark.slow
LONG = 30_000
"""Tokens of a context that takes seconds to fill."""


def test_a_draft_that_is_always_right_is_always_accepted(tmp_path: Path) -> None:
    folder = constant_model(tmp_path / "model", draft_agrees=True)
    groups = [PromptGroup("text", ["a", "some words"], max_tokens=21), PromptGroup("ids", [[5, 6, 7]], max_tokens=11)]
    generations = generate(folder, groups)
    text, ids = generations["text"], generations["ids"]
    assert len(set(text.texts)) == 1
    assert len(ids.texts) == 1
    assert (text.generated_tokens, ids.generated_tokens) == (42, 11)
    assert 0 < ids.draft_tokens < text.draft_tokens  # the counters are those of the group, not of the engine
    assert text.accepted_tokens == text.draft_tokens
    assert ids.accepted_tokens == ids.draft_tokens


def test_sampling_with_drafts_keeps_the_distribution(tmp_path: Path, vllm_python: str) -> None:
    """Requests of different temperatures in one batch, 600 tokens each, a draft for every second one."""
    folder = undecided_model(tmp_path / "model")
    program = Path(__file__).parent / "programs" / "sample_with_drafts.py"
    command = [vllm_python, str(program), str(folder), str(tmp_path / "out.json")]
    environment = vllm_environment() | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    shares = json.loads((tmp_path / "out.json").read_text())
    warm, cold, greedy = ({int(token): share for token, share in found.items()} for found in shares)
    # Four standard deviations of 600 draws are 0.08.
    assert warm[ANSWER] == pytest.approx(0.6, abs=0.08)
    assert warm[OTHER] == pytest.approx(0.4, abs=0.08)
    odds = 1.5 ** (0.6 / 0.2)
    assert cold[ANSWER] == pytest.approx(odds / (1 + odds), abs=0.08)
    assert greedy == {ANSWER: 1.0}


@dataclass(frozen=True)
class Server:
    """A running server and the model that it serves."""

    url: str
    folder: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, vllm_python: str) -> Iterator[Server]:
    """One for all tests: it thinks and answers in chats, and goes on for ever in completions, with wrong drafts.

    It computes in its engine's process; with a worker process and started as users do it runs in test_mtp_plugin.py.
    """
    root = tmp_path_factory.mktemp("server")
    folder = reciting_or_constant_model(root / "model", ["<think>", "m", "o", "</think>", "w", "d"], seq_length=LONG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        patch.setattr(sys, "executable", vllm_python)
        with running_server(folder, "127.0.0.1", free_port(), [], root / "log", reasoning_parser="mimo") as url:
            yield Server(url, folder)


def test_server_answers_and_rejects_drafts_that_are_always_wrong(server: Server) -> None:
    url = server.url
    before = read_metrics(url)
    answer = complete(url, "mimo", "some words", max_tokens=8)
    metrics = read_metrics(url)
    assert find_model(url).folder == server.folder
    body = {"model": "mimo", "prompt": "some", "max_tokens": LONG - 10, "temperature": 0}
    parts = stream(f"{url}/v1/completions", body)
    assert next(parts)[0] == "content"
    parts.close()
    running, generated = "vllm:num_requests_running", "vllm:generation_tokens_total"
    assert eventually(lambda: counter(read_metrics(url), running) == 0), "a closed stream ends the server's work"
    assert counter(read_metrics(url), generated) - counter(metrics, generated) < LONG - 10, "before its end"
    assert answer["usage"]["completion_tokens"] == 8
    assert len(set(answer["choices"][0]["text"])) == 1
    drafted, accepted = (
        counter(metrics, name) - counter(before, name)
        for name in ("vllm:spec_decode_num_draft_tokens_total", "vllm:spec_decode_num_accepted_tokens_total")
    )
    assert drafted >= 6
    assert accepted == 0


def test_the_reasoning_is_told_apart_from_the_answer(server: Server) -> None:
    url = server.url
    body = {"model": "mimo", "messages": [{"role": "user", "content": "some"}], "max_tokens": 16, "temperature": 0}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    message = json.load(urllib.request.urlopen(request))["choices"][0]["message"]
    sink, lines = io.StringIO(), f"some\n{'words ' * LONG}\nsome\n"
    settings = {"model": "mimo", "max_tokens": 16, "temperature": 0}
    converse(url, ChatForm(), settings, PlainLines(io.StringIO(lines), sink), sink)
    assert (message["reasoning"], message["content"]) == ("mo", "wd")
    assert sink.getvalue().count("mowd\n") == 2
    assert re.search(rf"the server refused \(400\): .*{LONG}.*\n\(this line is left out", sink.getvalue())


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + patience(seconds)
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds()


def read_metrics(url: str) -> str:
    return urllib.request.urlopen(f"{url}/metrics").read().decode()


def counter(metrics: str, name: str) -> float:
    """Value of a Prometheus counter in the text form."""
    return next(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith(name))
