"""Floating-point operations a token, counted from the model's shape.

A matrix product of [a, b] by [b, c] counts 2abc. Norms, rotations, softmax and optimizer are left out, as is usual
(PaLM, arXiv:2204.02311, appendix B). Backward counts twice the forward pass; recomputation is work of the machine, not
of the model, and is never counted.
"""

from dataclasses import dataclass, fields, replace

from megatron_mimo.config import ModelConfig

TRAINING_FACTOR = 3
"""One forward pass, and a backward pass of twice its products: one for the inputs, one for the weights."""


@dataclass(frozen=True, kw_only=True)
class FlopCount:
    """FLOPs per token by part, over all layers. `convention` says how attention is counted: quote it beside an MFU."""

    attention_projections: float
    attention_core: float
    mlp: float
    head: float
    mtp_layers: float
    """The MTP layers' own projection and decoder layer, attention core included."""
    mtp_heads: float
    """The shared output head, applied once more for each MTP layer."""
    convention: str

    @property
    def main(self) -> float:
        """The main model alone."""
        return self.attention_projections + self.attention_core + self.mlp + self.head

    @property
    def mtp(self) -> float:
        """What multi-token prediction adds."""
        return self.mtp_layers + self.mtp_heads

    @property
    def total(self) -> float:
        return self.main + self.mtp

    def scaled(self, factor: float) -> "FlopCount":
        """The same parts times `factor`."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value * factor for name, value in parts.items() if name != "convention"})


def projection_flops(model: ModelConfig) -> float:
    """Forward FLOPs per token of one layer's query, key, value and output projections."""
    heads = 2 * model.num_attention_heads + 2 * model.num_query_groups
    return 2.0 * model.hidden_size * heads * model.kv_channels


def attention_core_flops(model: ModelConfig, seq_length: int, causal_half: bool) -> float:
    """Forward FLOPs per token of one layer's scores and weighted sum; half the square under `causal_half`."""
    square = 4.0 * seq_length * model.num_attention_heads * model.kv_channels
    return square / 2 if causal_half else square


def mlp_flops(model: ModelConfig) -> float:
    """Forward FLOPs per token of one layer's gate, up and down projections."""
    return 6.0 * model.hidden_size * model.ffn_hidden_size


def layer_flops(model: ModelConfig, seq_length: int, causal_half: bool) -> float:
    """Forward FLOPs per token of one decoder layer."""
    return projection_flops(model) + attention_core_flops(model, seq_length, causal_half) + mlp_flops(model)


def mtp_projection_flops(model: ModelConfig) -> float:
    """Forward FLOPs per token of one MTP layer's projection from hidden state and embedding, [2h] -> [h]."""
    return 4.0 * model.hidden_size**2


def head_flops(model: ModelConfig) -> float:
    """Forward FLOPs per token of one application of the output head."""
    return 2.0 * model.hidden_size * model.vocab_size


def forward_flops_per_token(model: ModelConfig, seq_length: int, causal_half: bool = True) -> FlopCount:
    """FLOPs of one forward pass, a token of a sequence of `seq_length` tokens.

    `causal_half` counts the attention core at half its square, since a token looks at half the sequence on average;
    False counts the whole square, as some published figures do. Documents packed in one sequence are not discounted.
    """
    layer = layer_flops(model, seq_length, causal_half)
    return FlopCount(
        attention_projections=model.num_layers * projection_flops(model),
        attention_core=model.num_layers * attention_core_flops(model, seq_length, causal_half),
        mlp=model.num_layers * mlp_flops(model),
        head=head_flops(model),
        mtp_layers=model.mtp_depths * (layer + mtp_projection_flops(model)),
        mtp_heads=model.mtp_depths * head_flops(model),
        convention="causal attention counted half" if causal_half else "attention counted in full",
    )


def training_flops_per_token(model: ModelConfig, seq_length: int, causal_half: bool = True) -> FlopCount:
    """FLOPs of a forward and backward pass, a token: three times the forward pass. `.total` is what MFU is made of."""
    return forward_flops_per_token(model, seq_length, causal_half).scaled(TRAINING_FACTOR)
