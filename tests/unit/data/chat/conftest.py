"""A small tokenizer with a chat template that knows tools and drops the thinking of earlier turns."""

import json
from pathlib import Path

import pytest

from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer

# `%GENERATION%`: where Transformers' own marks of the assistant's words go, in the variant that has them.
TEMPLATE = """
{%- if tools %}{{ '<|im_start|>system\\nTools:\\n' }}
{%- for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}
{%- set ns = namespace(last_user=0) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.last_user = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set content = message.content %}
{%- if '</think>' in content and loop.index0 < ns.last_user %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}
{{- '<|im_start|>assistant\\n' }}%GENERATION%{{- content }}
{%- for call in message.tool_calls or [] %}{{ '\\n<tool_call>' + (call.function | tojson) + '</tool_call>' }}{% endfor %}
{{- '<|im_end|>' }}%END%{{- '\\n' }}
{%- elif message.role == 'tool' %}{{ '<|im_start|>user\\n<tool_response>' + message.content + '</tool_response><|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}
""".strip()  # noqa: E501
PLAIN = TEMPLATE.replace("%GENERATION%", "").replace("%END%", "")
MARKED = TEMPLATE.replace("%GENERATION%", "{%- generation %}").replace("%END%", "{%- endgeneration %}")


def make_tokenizer(folder: Path, template: str) -> Path:
    save_tokenizer(train_tokenizer(["how many words are in this sentence? seven, and 数学 \U0001f600"], 300), folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return folder


@pytest.fixture(scope="session")
def plain_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("plain"), PLAIN)


@pytest.fixture(scope="session")
def marked_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same template with `{% generation %}`, which Transformers derives the assistant's tokens from."""
    return make_tokenizer(tmp_path_factory.mktemp("marked"), MARKED)
