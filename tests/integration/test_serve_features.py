"""One vLLM server of a model that recites: tool calls with the reasoning parser on, and an adapter beside it."""

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.convert.lora import export_adapter
from megatron_mimo.platform.network import free_port
from megatron_mimo.serve.openai_server import post, running_server
from support.adapters import lora_checkpoint
from support.known_models import reciting_model
from support.needs import needs

needs("vllm")
pytestmark = pytest.mark.slow

CALL = '<tool_call>\n{"name": "tide", "arguments": {"port": "Brest"}}\n</tool_call>'
PIECES = ["<think>", "m", "o", "</think>", "w", "d", CALL]
TOOLS = [{"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}]
ASKED = {"model": "mimo", "messages": [{"role": "user", "content": "some"}], "max_tokens": 16, "temperature": 0}


@pytest.fixture(scope="module")
def reciting(tmp_path_factory: pytest.TempPathFactory, vllm_python: str) -> Iterator[tuple[str, Path]]:
    """A server of a model that thinks, says `wd` and calls a tool, an adapter `tuned` beside it; and its folder."""
    folder = tmp_path_factory.mktemp("reciting")
    model = reciting_model(folder / "model", PIECES)
    export_adapter(lora_checkpoint(model, folder / "step_00000001", size=0.2), folder / "adapter", without_mtp=True)
    extra = ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"tuned={folder / 'adapter'}"]
    parsers: dict[str, Any] = {"reasoning_parser": "mimo", "tool_call_parser": "hermes", "num_drafts": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", vllm_python)
        with running_server(model, "127.0.0.1", free_port(), extra, folder / "log", **parsers) as url:
            yield url, model


def test_reasoning_answer_and_tool_call_are_told_apart(reciting: tuple[str, Path]) -> None:
    url, _ = reciting
    choice = post(f"{url}/v1/chat/completions", ASKED | {"tools": TOOLS})["choices"][0]
    assert (choice["message"]["reasoning"], choice["message"]["content"]) == ("mo", "wd")
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("tide", {"port": "Brest"})
    assert choice["finish_reason"] == "tool_calls"
    untold = post(f"{url}/v1/chat/completions", ASKED)["choices"][0]["message"]
    assert (untold["reasoning"], untold["content"]) == ("mo", f"wd{CALL}")


def test_an_adapter_is_served_beside_its_model(reciting: tuple[str, Path]) -> None:
    url, _ = reciting
    listed = json.load(urllib.request.urlopen(f"{url}/v1/models"))["data"]
    assert {each["id"] for each in listed} == {"mimo", "tuned"}
