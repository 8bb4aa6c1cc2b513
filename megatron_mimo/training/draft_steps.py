"""Labels, masks and weights of the draft steps that one recursive MTP layer is trained on (`model/recursive_mtp.py`).

Shapes: `s`equence, `b`atch (micro-batch), `K` draft steps.
"""

from dataclasses import replace

import torch

from megatron_mimo.training.batch import Batch


def with_draft_steps(batch: Batch, num_steps: int) -> Batch:
    """The batch of a model with one MTP layer for K draft steps: labels and loss mask [1+K, b, s] for [2, b, s].

    Every step at a position predicts the same token. Step k learns where its draft begins in the position's own
    document: k - 1 places back. With K = 1 the batch stays as it is.
    """
    if num_steps == 1:
        return batch
    main, drafted = batch.labels
    main_mask, mask = batch.loss_mask
    masks = [mask * (batch.position_ids >= step) for step in range(num_steps)]
    return replace(
        batch,
        labels=torch.stack([main, *[drafted] * num_steps]),
        loss_mask=torch.stack([main_mask, *masks]),
    )


def step_weights(num_depths: int, decay: float) -> list[float]:
    """Weights of the MTP losses, decay^(k-1), normalised to a sum of 1 (FastMTP: decay 0.6; 1 weighs all alike)."""
    weights = [decay**step for step in range(num_depths)]
    return [weight / sum(weights) for weight in weights]
