"""Number formats in megatron-core's terms."""

from typing import Any

import torch

from megatron_mimo.config import PrecisionConfig

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
"""`auto` is none of them: training/number_format.py has decided by the time a model is built."""


def precision_fields(precision: PrecisionConfig) -> dict[str, Any]:
    """TransformerConfig fields for parameters, pipeline traffic, FP8 scaling and fused products and losses.

    FP8 applies to the linear layers' matrix products; embedding, norms, attention core, head and optimizer stay in
    bf16/fp32. Recipes: delayed (amax history), tensorwise (current scaling), blockwise (1x128 activations, 128x128
    weights), mxfp8 (1x32 blocks with power-of-two scales). Emulated FP8 is the torch layers' affair.
    """
    dtype = DTYPES[precision.dtype]
    fields: dict[str, Any] = {"params_dtype": dtype, "pipeline_dtype": dtype, "bf16": precision.dtype == "bf16"}
    if precision.fp8_recipe != "none" and not precision.fp8_emulation:
        fields |= {"fp8": precision.fp8_format, "fp8_recipe": precision.fp8_recipe}
        fields["fp8_param"] = precision.fp8_parameters
    if precision.cross_entropy == "fused":
        fields |= {"cross_entropy_loss_fusion": True, "cross_entropy_fusion_impl": "te"}
    return fields
