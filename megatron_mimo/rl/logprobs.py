"""Log-probabilities of the taken tokens, and the entropy, from the last pipeline stage's hidden states.

Shapes: `s`equence (`S` whole, where tensor-parallel ranks cut it), `b`atch, `h`idden, `v`ocabulary (local to the
tensor-parallel rank).
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from torch import Tensor

from megatron_mimo.model.gpt import MTPGPTModel

ENTROPY_CHUNK_ROWS = 256
"""Positions whose logits exist at the same time: 160 MB in fp32 for 152,000 tokens."""


class PolicyHead:
    """The `main_head` of MTPGPTModel.forward for RL.

    Log-probabilities are minus the losses of training, cross entropy in fp32 over the vocabulary of all tensor-parallel
    ranks, so a policy is scored by the same arithmetic that trains it.
    """

    def __init__(self, model: MTPGPTModel, with_entropy: bool) -> None:
        self._model, self._with_entropy = model, with_entropy

    def __call__(self, states: Tensor, labels: Tensor) -> Tensor:
        """states [s, b, h], labels [b, S] -> fp32 [2, b, S]: log-probability with gradient, entropy (or 0) without."""
        logprobs = -self._model._losses(states, labels)
        entropy = self._entropy(states.detach()) if self._with_entropy else torch.zeros_like(logprobs)
        return torch.stack([logprobs, entropy])

    @torch.no_grad()
    def _entropy(self, states: Tensor) -> Tensor:
        """[s, b, h] -> [b, S] in nats."""
        layer: Any = self._model.output_layer
        group = layer.tp_group if layer.tp_group.size() > 1 else None
        if layer.sequence_parallel:
            states = gather_from_sequence_parallel_region(states, group=layer.tp_group)
        chunks = states.flatten(0, 1).split(ENTROPY_CHUNK_ROWS)
        entropies = [vocabulary_entropy(F.linear(chunk, layer.weight), group) for chunk in chunks]
        return torch.cat(entropies).view(states.shape[:2]).t()


def vocabulary_entropy(logits: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Entropy in nats of every row: logits [rows, v] -> fp32 [rows]; `group` shares out the vocabulary."""
    logits = logits.float()
    highest = logits.amax(dim=-1)
    if group is not None:
        dist.all_reduce(highest, dist.ReduceOp.MAX, group)
    logits = logits - highest.unsqueeze(-1)
    weights = logits.exp()
    # H = log Z - sum(w * logit) / Z, with Z = sum(w).
    sums = torch.stack([weights.sum(dim=-1), (weights * logits).sum(dim=-1)])
    if group is not None:
        dist.all_reduce(sums, group=group)
    return sums[0].log() - sums[1] / sums[0]
