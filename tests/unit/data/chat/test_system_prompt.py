"""An empty system prompt keeps a template's default out, wherever a conversation is rendered."""

import json
from pathlib import Path

import pytest

from megatron_mimo.config.eval import EvalGenerationConfig
from megatron_mimo.config.rl import RLDataConfig
from megatron_mimo.data.chat.conversation import read_conversation
from megatron_mimo.data.chat.system_prompt import system_message
from megatron_mimo.data.chat.template import ChatTemplate
from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer
from megatron_mimo.eval.engines import LocalEngine
from megatron_mimo.rl.prompts import PromptEncoder
from megatron_mimo.serve.chat_client import ChatForm

WITH_DEFAULT = (
    "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""As the templates of MiMo-7B and Qwen2.5 do."""
EMPTY = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n2+3?<|im_end|>\n"
ASSISTANT = "<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    save_tokenizer(train_tokenizer(["some words"], 268), folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": WITH_DEFAULT}))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "record",
    [
        {"system": "", "query": "2+3?", "response": "5"},
        {"system_prompt": "", "messages": [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "5"}]},
        {"system": "", "conversation": [{"human": "2+3?", "assistant": "5"}]},
    ],
)
def test_fine_tuning_records(folder: Path, record: dict) -> None:
    assert ChatTemplate(folder).render(read_conversation(record)).startswith(EMPTY)
    without = {key: value for key, value in record.items() if not key.startswith("system")}
    assert "Be helpful." in ChatTemplate(folder).render(read_conversation(without))


def test_rl_prompts(folder: Path) -> None:
    encoder = PromptEncoder(RLDataConfig(train=["-"], tokenizer=str(folder)))
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(str(folder)).decode(encoder.encode("2+3?")) == EMPTY + ASSISTANT


@pytest.mark.parametrize(
    ("prompt", "start"),
    [("", EMPTY), (None, EMPTY.replace("system\n", "system\nBe helpful.")), ("Hi", EMPTY.replace("m\n", "m\nHi", 1))],
)
def test_evaluation(folder: Path, prompt: str | None, start: str) -> None:
    engine = LocalEngine(folder, "", EvalGenerationConfig(system_prompt=prompt))
    ids = engine.prompt_ids([{"role": "user", "content": "2+3?"}])
    assert engine._tokenizer.decode(ids) == start + ASSISTANT


def test_chat() -> None:
    assert ChatForm().body("2+3?")["messages"][0] == {"role": "system", "content": ""} == system_message("")[0]


def test_our_own_template_writes_nothing_for_it(tmp_path: Path) -> None:
    """Nano models are trained without a system turn: asked with an empty one, they see what they have learned."""
    save_tokenizer(train_tokenizer(["some words"], 268), tmp_path)
    rendered = ChatTemplate(tmp_path).render(read_conversation({"system": "", "query": "2+3?", "response": "5"}))
    assert rendered == "<|im_start|>user\n2+3?<|im_end|>\n<|im_start|>assistant\n5<|im_end|>\n"
