"""Which trained models vLLM cannot serve: known before training, so that nobody trains one by accident."""

from megatron_mimo.config import ModelConfig

CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""vLLM's CPU attention, release 0.32 (vllm/v1/attention/backends/cpu_attn.py)."""
GPU_HEAD_MULTIPLE, GPU_HEAD_LIMIT = 8, 256
"""FlashAttention in the same release (flash_attn.py): multiples of 8 up to 256."""


def serving_limits(model: ModelConfig) -> list[str]:
    """What keeps vLLM from serving the model, a sentence each; empty for a model that it serves."""
    limits, size = [], model.kv_channels
    if size * model.num_attention_heads != model.hidden_size:
        limits.append("vLLM requires kv_channels x num_attention_heads == hidden_size, which does not hold here.")
    on_cpu = size in CPU_HEAD_SIZES
    on_gpu = size % GPU_HEAD_MULTIPLE == 0 and size <= GPU_HEAD_LIMIT
    if not on_cpu or not on_gpu:
        where = "on CPUs" if on_gpu else "on GPUs" if on_cpu else "anywhere"
        sizes = ", ".join(map(str, CPU_HEAD_SIZES))
        limits.append(f"vLLM has no attention for kv_channels={size} {where}; on CPUs it has {sizes}.")
    return limits


def serving_warning(model: ModelConfig) -> str | None:
    """One line for the start of a training, or None."""
    limits = serving_limits(model)
    if not limits:
        return None
    shape = f"hidden_size={model.hidden_size}, num_attention_heads={model.num_attention_heads}"
    return (
        f"warning: this model trains but cannot be served ({shape}, kv_channels={model.kv_channels}):"
        f" {' '.join(limits)} Change these model keys if it is to be served."
    )
