"""Heads of a tagger: outputs [b, o] of any body -> tags, and their loss against labelled pages.

The o outputs are, in this order: a logit a domain, a score a SCORES entry (in units of MAX_SCORE), a logit a kind.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from megatron_mimo.data.tag.schema import DOMAINS, KINDS, MAX_SCORE, SCORES, Tags

_DOMAINS, _KINDS = list(DOMAINS), list(KINDS)
_SIZES = [len(DOMAINS), len(SCORES), len(KINDS)]
NUM_OUTPUTS = sum(_SIZES)
SCORE_WEIGHT = 5.0
"""Squared errors of scores in units of MAX_SCORE are small beside cross-entropies."""


def targets(tags: Sequence[Tags]) -> list[Tensor]:
    """Domain indices [b], scores [b, 3] in units of MAX_SCORE, kinds [b, 3]."""
    return [
        torch.tensor([_DOMAINS.index(item.domain) for item in tags]),
        torch.tensor([item.scores for item in tags]) / MAX_SCORE,
        torch.tensor([[float(kind in item.kinds) for kind in _KINDS] for item in tags]),
    ]


def heads_loss(outputs: Tensor, wanted: Sequence[Tensor]) -> Tensor:
    """Sum of the heads' losses, a mean over the batch; `wanted` is what `targets` gives."""
    domains, scores, kinds = outputs.float().split(_SIZES, dim=-1)
    return (
        F.cross_entropy(domains, wanted[0])
        + SCORE_WEIGHT * F.mse_loss(scores, wanted[1])
        + F.binary_cross_entropy_with_logits(kinds, wanted[2])
    )


def to_tags(outputs: Tensor) -> list[Tags]:
    """The most probable domain, scores cut to 0..MAX_SCORE, kinds more probable than not."""
    domains, scores, kinds = outputs.float().split(_SIZES, dim=-1)
    rows = zip(
        domains.argmax(-1).tolist(),
        (scores * MAX_SCORE).clamp(0, MAX_SCORE).tolist(),
        (kinds > 0).tolist(),
        strict=True,
    )
    return [
        Tags(
            domain=_DOMAINS[domain],
            **dict(zip(SCORES, values, strict=True)),
            kinds=[kind for kind, holds in zip(_KINDS, flags, strict=True) if holds],
        )
        for domain, values, flags in rows
    ]
