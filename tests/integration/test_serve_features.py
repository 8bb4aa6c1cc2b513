"""One vLLM server of a model that recites: tool calls with the reasoning parser on, an adapter, features of the API."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_mimo.convert.lora import MergedWeights, export_adapter
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.convert.mimo import mimo_ops
from megatron_mimo.convert.ops import to_hugging_face
from megatron_mimo.model.reference import ReferenceMiMo
from megatron_mimo.platform.network import free_port
from megatron_mimo.serve.openai_server import post, running_server
from support.adapters import lora_checkpoint
from support.known_models import reciting_model

pytest.importorskip("vllm")
pytestmark = pytest.mark.slow

CALL = '<tool_call>\n{"name": "tide", "arguments": {"port": "Brest"}}\n</tool_call>'
PIECES = ["<think>", "m", "o", "</think>", "w", "d", CALL]
TOOLS = [{"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}]
ASKED = {"model": "mimo", "messages": [{"role": "user", "content": "some"}], "max_tokens": 16, "temperature": 0}


@pytest.fixture(scope="module")
def reciting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server of a model that thinks, says `wd` and calls a tool, an adapter `tuned` beside it; and its folder."""
    folder = tmp_path_factory.mktemp("reciting")
    model = reciting_model(folder / "model", PIECES)
    export_adapter(lora_checkpoint(model, folder / "step_00000001", size=0.2), folder / "adapter", without_mtp=True)
    extra = ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"tuned={folder / 'adapter'}"]
    parsers: dict[str, Any] = {"reasoning_parser": "mimo", "tool_call_parser": "hermes", "num_drafts": 0}
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


def test_an_adapter_has_the_merged_models_logprobs(reciting: tuple[str, Path]) -> None:
    """vLLM's --enable-lora against the plain-PyTorch reference with the updates added to its weights."""
    url, model = reciting
    tokens = torch.randint(0, 250, (24,), generator=torch.Generator().manual_seed(5)).tolist()
    checkpoint = TorchDistCheckpoint(model.parent / "step_00000001")
    weights = dict(to_hugging_face(mimo_ops(checkpoint.record.model), MergedWeights(checkpoint).read))
    reference = ReferenceMiMo(checkpoint.record.model, checkpoint.record.last_stage.rotary_base)
    reference.load_state_dict(weights)
    with torch.no_grad():
        expected = reference(torch.tensor([tokens]))[0, 0].log_softmax(-1)
    found = {}
    for name in ("mimo", "tuned"):
        body = {"model": name, "prompt": tokens, "echo": True, "logprobs": 0, "max_tokens": 1, "temperature": 0}
        logprobs = post(f"{url}/v1/completions", body)["choices"][0]["logprobs"]["token_logprobs"]
        found[name] = torch.tensor(logprobs[1 : len(tokens)])
    wanted = torch.stack([expected[place - 1, tokens[place]] for place in range(1, len(tokens))])
    difference = (found["tuned"] - wanted).abs().max()
    print(f"largest difference of {len(wanted)} logprobs: {difference:.1e}")
    assert difference < 1e-4
    assert (found["mimo"] - wanted).abs().max() > 0.05


def test_features_of_openais_api(reciting: tuple[str, Path]) -> None:
    """The table of docs/serve.md; reasoning, tools and logprobs of prompts have tests of their own."""
    url, _ = reciting
    chat, text = f"{url}/v1/chat/completions", f"{url}/v1/completions"
    listed = json.load(urllib.request.urlopen(f"{url}/v1/models"))["data"]
    assert {each["id"] for each in listed} == {"mimo", "tuned"}
    assert len(post(chat, ASKED | {"n": 2})["choices"]) == 2
    said = post(chat, ASKED | {"logprobs": True, "top_logprobs": 2})["choices"][0]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in said] == [2] * len(said)
    prompt = {"model": "mimo", "prompt": "some\n", "max_tokens": 16, "temperature": 0}
    assert post(text, prompt | {"stop": ["d"]})["choices"][0]["text"].endswith("w")
    short = post(text, prompt | {"max_tokens": 2})
    assert (short["choices"][0]["finish_reason"], short["usage"]["completion_tokens"]) == ("length", 2)
    drawn = [post(text, prompt | {"temperature": 1.0, "seed": 7, "max_tokens": 8})["choices"][0]["text"] for _ in "ab"]
    assert drawn[0] == drawn[1]
    assert post(chat, ASKED | {"max_tokens": None, "max_completion_tokens": 3})["usage"]["completion_tokens"] == 3
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "boolean"}}}
    settled = post(chat, ASKED | {"response_format": schema, "chat_template_kwargs": {"enable_thinking": False}})
    assert settled["choices"][0]["message"]["content"] in ("true", "false")
    events = events_of(chat, ASKED | {"stream_options": {"include_usage": True}, "tools": TOOLS})
    calls = [
        call for event in events for choice in event["choices"] for call in choice["delta"].get("tool_calls") or []
    ]
    assert [call["function"]["name"] for call in calls if call["function"].get("name")] == ["tide"]
    assert json.loads("".join(call["function"].get("arguments") or "" for call in calls)) == {"port": "Brest"}
    assert events[-1]["usage"]["completion_tokens"] > 0


def events_of(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything that a streamed answer sends."""
    request = urllib.request.Request(
        url, json.dumps(body | {"stream": True}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        lines = [line.decode().strip() for line in response if line.strip()]
    return [json.loads(line.removeprefix("data:")) for line in lines if not line.endswith("[DONE]")]
