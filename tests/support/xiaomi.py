"""The published facts of MiMo-7B's folder, on a tokenizer and weights made here: what other people's files look like.

Keys and values are those of its `config.json`, `generation_config.json` and `tokenizer_config.json`; the template is
written anew and renders the same turns: a default system message where none is given, Qwen's tool calls, and no word
of `<think>`, which the model writes by itself.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.mimo import hugging_face_shapes

DEFAULT_SYSTEM = "You are a helpful assistant."
SPECIAL = [
    "endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start",
    "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad",
]  # fmt: skip
PLAIN = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
         "<|repo_name|>", "<|file_sep|>"]  # fmt: skip
_TURNS = """
{%- set given = messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + (messages[0].content if given else '%DEFAULT%') }}
{%- if tools %}{{- '\\n\\n# Tools\\n' }}{% for tool in tools %}{{- '\\n' + (tool | tojson) }}{% endfor %}{% endif %}
{{- '<|im_end|>\\n' }}
{%- for turn in messages %}
{%- set before = messages[loop.index0 - 1].role if not loop.first else '' %}
{%- set after = messages[loop.index0 + 1].role if not loop.last else '' %}
{%- if turn.role == 'tool' %}
{{- '<|im_start|>user' if before != 'tool' else '' }}
{{- '\\n<tool_response>\\n' + turn.content + '\\n</tool_response>' }}
{{- '<|im_end|>\\n' if after != 'tool' else '' }}
{%- elif turn.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}%START%{{- turn.content }}
{%- for call in turn.tool_calls or [] %}{{- '\\n' if turn.content or not loop.first else '' }}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) }}
{{- '}\\n</tool_call>' }}{% endfor %}{{- '<|im_end|>' }}%END%{{- '\\n' }}
{%- elif not (loop.first and given) %}{{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}
{%- endif %}{% endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
""".strip().replace("%DEFAULT%", DEFAULT_SYSTEM)
TEMPLATE = _TURNS.replace("%START%", "").replace("%END%", "")
MARKED_TEMPLATE = _TURNS.replace("%START%", "{%- generation %}").replace("%END%", "{%- endgeneration %}")
"""The same, with what the assistant says marked for Transformers."""
MODEL = ModelConfig(
    num_layers=2, hidden_size=32, ffn_hidden_size=48, num_attention_heads=4, num_query_groups=2, kv_channels=8,
    vocab_size=320, mtp_num_layers=1,
)  # fmt: skip
GENERATION = {"bos_token_id": 256, "do_sample": False, "eos_token_id": 258, "max_new_tokens": 2048,
              "transformers_version": "4.37.0"}  # fmt: skip


def write_tokenizer(folder: Path) -> Path:
    """tokenizer.json with all bytes and MiMo-7B's 22 added tokens, and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(vocab_size=256, initial_alphabet=alphabet))
    special = [f"<|{name}|>" for name in SPECIAL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in PLAIN])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": special[1:],
        "bos_token": None,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    return folder


def model_config(**changes: Any) -> dict[str, Any]:
    """`config.json` with MiMo-7B's keys and the numbers of MODEL."""
    return {
        "architectures": ["MiMoForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_mimo.MiMoConfig",
            "AutoModel": "modeling_mimo.MiMoModel",
            "AutoModelForCausalLM": "modeling_mimo.MiMoForCausalLM",
        },
        "attention_bias": True,
        "attention_dropout": 0.0,
        "bos_token_id": 256,
        "eos_token_id": 258,
        "head_dim": MODEL.kv_channels,
        "hidden_act": "silu",
        "hidden_size": MODEL.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": MODEL.ffn_hidden_size,
        "max_position_embeddings": 32768,
        "max_window_layers": 36,
        "model_type": "mimo",
        "num_attention_heads": MODEL.num_attention_heads,
        "num_hidden_layers": MODEL.num_layers,
        "num_key_value_heads": MODEL.num_query_groups,
        "num_nextn_predict_layers": 1,
        "rms_norm_eps": 1e-05,
        "rope_theta": 640000,
        "sliding_window": 32768,
        "tie_word_embeddings": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.1",
        "use_cache": True,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": MODEL.vocab_size,
    } | changes


def weights() -> dict[str, torch.Tensor]:
    """Random bf16 tensors under MiMo-7B's names."""
    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(shape, generator=generator) for name, shape in hugging_face_shapes(MODEL).items()}
    return {name: (1 + 0.1 * t if "norm" in name else 0.1 * t).bfloat16() for name, t in noise.items()}


def write_folder(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    """A model folder as Xiaomi publishes it; `tensors` and entries of config.json may be another tool's."""
    write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(model_config(**config), indent=2))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION, indent=2))
    save_file(weights() if tensors is None else tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
