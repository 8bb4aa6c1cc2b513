"""Shape of a MiMo model. MiMo-7B and MiMo-nano differ in these numbers only."""

from dataclasses import dataclass, replace
from typing import Literal

from megatron_mimo.config.errors import ConfigError

MTPHiddenState = Literal["before_final_norm", "after_final_norm"]


@dataclass(kw_only=True)
class ModelConfig:
    """Decoder-only Transformer with RMSNorm, SwiGLU, RoPE, GQA, QKV bias and untied embeddings (report section 2.2)."""

    num_layers: int
    hidden_size: int
    ffn_hidden_size: int
    num_attention_heads: int
    num_query_groups: int
    """Number of key/value heads (GQA)."""
    kv_channels: int
    """Size of one attention head."""
    vocab_size: int
    """Rows of the embedding and of the output head, padding included."""
    layernorm_epsilon: float = 1e-5
    init_method_std: float = 0.02
    mtp_num_layers: int = 1
    """Number of MTP layers; 0 trains without multi-token prediction."""
    mtp_recursive_steps: int = 1
    """Tokens that one MTP layer is trained to draft, reading its own output from the second on (FastMTP). 1: every
    layer drafts one token, from the main model's state, the report's parallel form."""
    mtp_hidden_state: MTPHiddenState = "before_final_norm"
    """Main model's hidden state that feeds the MTP layers; MiMo's inference code takes it before the final norm."""
    mtp_zero_first_embedding: bool = True
    """Zero the next-token embedding where position == 0, as MiMo's inference code does."""

    def __post_init__(self) -> None:
        for name in ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name}", getattr(self, name), "must be at least 1")
        if self.kv_channels < 2 or self.kv_channels % 2:
            raise ConfigError("model.kv_channels", self.kv_channels, "RoPE rotates pairs: choose an even head size")
        if self.vocab_size < 1:
            raise ConfigError("model.vocab_size", self.vocab_size, "must be at least 1")
        for name in ("layernorm_epsilon", "init_method_std"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"model.{name}", getattr(self, name), "must be above 0")
        if self.mtp_num_layers < 0:
            raise ConfigError("model.mtp_num_layers", self.mtp_num_layers, "must be 0 or more")
        if self.mtp_recursive_steps < 1:
            raise ConfigError("model.mtp_recursive_steps", self.mtp_recursive_steps, "must be at least 1")
        if self.mtp_recursive_steps > 1 and self.mtp_num_layers != 1:
            raise ConfigError(
                "model.mtp_recursive_steps",
                self.mtp_recursive_steps,
                f"one MTP layer drafts recursively, the model has {self.mtp_num_layers}: set model.mtp_num_layers=1",
            )
        if self.num_attention_heads % self.num_query_groups:
            raise ConfigError(
                "model.num_query_groups",
                self.num_query_groups,
                f"must divide model.num_attention_heads={self.num_attention_heads}",
            )

    def without_mtp(self) -> "ModelConfig":
        """Only the main model."""
        return replace(self, mtp_num_layers=0, mtp_recursive_steps=1)

    @property
    def mtp_depths(self) -> int:
        """Tokens beyond the next that the model predicts: one per layer, or one per step of the recursive layer."""
        return self.mtp_num_layers if self.mtp_recursive_steps == 1 else self.mtp_recursive_steps
