"""Hugging Face's `config.json` <-> ModelConfig, RoPE base and sequence length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from megatron_mimo.config import ModelConfig, UserError

ARCHITECTURE = "MiMoForCausalLM"
REQUIRED = {
    "attention_bias": True,
    "hidden_act": "silu",
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
}
"""Settings that MiMo's layers are built for, with the values they must have where a config.json names them."""


@dataclass(frozen=True)
class ImportedConfig:
    """What a config.json says about a MiMo model."""

    model: ModelConfig
    """`vocab_size` is the number of rows stored."""
    rotary_base: int
    seq_length: int
    quantization_block: tuple[int, int] | None
    """Rows and columns that share one scale of an FP8 weight; None for weights that are not quantized."""
    chat_trained: bool | None
    """What the folder says of itself; None for folders of other makers."""


def config_json(
    model: ModelConfig,
    dtype: torch.dtype,
    rotary_base: int,
    seq_length: int,
    stop_token_ids: list[int],
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`config.json` with every value explicit: loaders fill gaps with defaults of their own, silently.

    `record` is what is known of the training; loaders take no notice of it.
    """
    recursive = {"mtp_recursive_steps": model.mtp_recursive_steps} if model.mtp_recursive_steps > 1 else {}
    return {**(record or {}), **recursive} | {
        "architectures": [ARCHITECTURE],
        "model_type": "mimo",
        "auto_map": {
            "AutoConfig": "configuration_mimo.MiMoConfig",
            "AutoModel": "modeling_mimo.MiMoBackbone",
            "AutoModelForCausalLM": "modeling_mimo.MiMoForCausalLM",
        },
        "attention_bias": True,
        "attention_dropout": 0.0,
        "bos_token_id": stop_token_ids[-1],
        "eos_token_id": stop_token_ids[0] if len(stop_token_ids) == 1 else stop_token_ids,
        "head_dim": model.kv_channels,
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "initializer_range": model.init_method_std,
        "intermediate_size": model.ffn_hidden_size,
        "max_position_embeddings": seq_length,
        "max_window_layers": model.num_layers,
        "mtp_hidden_state": model.mtp_hidden_state,
        "mtp_zero_first_embedding": model.mtp_zero_first_embedding,
        "num_attention_heads": model.num_attention_heads,
        "num_hidden_layers": model.num_layers,
        "num_key_value_heads": model.num_query_groups,
        "num_nextn_predict_layers": model.mtp_num_layers,
        "rms_norm_eps": model.layernorm_epsilon,
        "rope_scaling": None,
        "rope_theta": float(rotary_base),
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": model.vocab_size,
    }


def read_config_json(config: dict[str, Any], source: str) -> ImportedConfig:
    """The inverse; raises UserError for another architecture and for settings MiMo's layers do not have."""
    if config.get("architectures") != [ARCHITECTURE]:
        raise UserError(f"{source}: the architecture is {config.get('architectures')}, this converts {ARCHITECTURE}")
    _check_settings(config, source)
    try:
        heads = config["num_attention_heads"]
        model = ModelConfig(
            num_layers=config["num_hidden_layers"],
            hidden_size=config["hidden_size"],
            ffn_hidden_size=config["intermediate_size"],
            num_attention_heads=heads,
            num_query_groups=config["num_key_value_heads"],
            kv_channels=config.get("head_dim") or config["hidden_size"] // heads,
            vocab_size=config["vocab_size"],
            layernorm_epsilon=config["rms_norm_eps"],
            init_method_std=config.get("initializer_range", 0.02),
            mtp_num_layers=config.get("num_nextn_predict_layers", 0),
            mtp_recursive_steps=config.get("mtp_recursive_steps", 1),
            mtp_hidden_state=config.get("mtp_hidden_state", "before_final_norm"),
            mtp_zero_first_embedding=config.get("mtp_zero_first_embedding", True),
        )
        # Transformers 5 writes rope_parameters instead.
        theta = config["rope_theta"] if "rope_theta" in config else config["rope_parameters"]["rope_theta"]
        return ImportedConfig(
            model, int(theta), config["max_position_embeddings"], _block(config, source), config.get("chat_trained")
        )
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{source} lacks a setting or has it in another form: {error!r}") from error


def _check_settings(config: dict[str, Any], source: str) -> None:
    wrong = [f"{key} = {config[key]!r}" for key, value in REQUIRED.items() if config.get(key, value) != value]
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        wrong.append(f"rope_parameters = {rope!r}")
    if wrong:
        raise UserError(f"{source}: MiMo's layers cannot express {', '.join(wrong)}; this is another architecture")


def _block(config: dict[str, Any], source: str) -> tuple[int, int] | None:
    quantization = config.get("quantization_config")
    if quantization is None:
        return None
    if quantization.get("quant_method") != "fp8" or not quantization.get("weight_block_size"):
        raise UserError(
            f"{source}: of quantized weights only FP8 with weight_block_size can be converted, this is"
            f" {quantization.get('quant_method')!r}; use the bf16 checkpoint"
        )
    rows, columns = quantization["weight_block_size"]
    return rows, columns
