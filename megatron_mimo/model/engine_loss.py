"""Transformer Engine's cross entropy (`precision.cross_entropy=fused`). Importing this module needs nothing of it."""

import inspect
from typing import Any

import torch.distributed as dist
from torch import Tensor


def fused_cross_entropy(logits: Tensor, labels: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """logits [s,b,v] of this tensor-parallel rank, labels [b,s] -> cross entropy in nats, fp32 [b,s].

    The logits are used up: their memory becomes that of their gradient. Transformer Engine did so always, and does so
    on request since 2.20, where it would otherwise copy them. `group` shares out the vocabulary; None: it is whole.
    """
    from transformer_engine.pytorch import cross_entropy  # pyright: ignore[reportMissingImports]

    function: Any = cross_entropy.parallel_cross_entropy
    in_place = "overwrite_input" in inspect.signature(function).parameters
    # A view of a flat tensor: with b = 1 a transposed one counts as contiguous, with strides that do not.
    target = labels.t().flatten().view(logits.shape[:2])
    losses = function(logits, target, 0.0, False, group, **({"overwrite_input": True} if in_place else {}))
    return losses.view(logits.shape[:2]).t()
