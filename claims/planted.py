"""Run a command of megatron-mimo with a fault: python claims/planted.py FAULT COMMAND ...

    none                  no fault: the command as it is
    mtp_labels_off        MTP layer 1 is trained to predict the token one place too far
    labels_off            the main model is trained on labels one place too far in every eighth sequence

Studies whose is_planted is true run it, to see whether the machinery of the claims finds what is known to be there.
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from megatron_mimo.cli import main
from megatron_mimo.training import batch

Labels = tuple[Tensor, Tensor]
shifted_labels = batch.shifted_labels


def mtp_labels_off(tokens: Tensor, num_heads: int) -> Labels:
    """Labels `[heads, b, s]`: those of head 1 moved by one place."""
    labels, mask = shifted_labels(tokens, num_heads)
    labels[1] = torch.roll(labels[1], -1, dims=-1)
    return labels, mask


def labels_off(tokens: Tensor, num_heads: int) -> Labels:
    """Those of head 0 moved by one place, in every eighth row of the batch."""
    labels, mask = shifted_labels(tokens, num_heads)
    labels[0, ::8] = torch.roll(labels[0, ::8], -1, dims=-1)
    return labels, mask


FAULTS: dict[str, Callable[[Tensor, int], Labels]] = {
    "none": shifted_labels,
    "mtp_labels_off": mtp_labels_off,
    "labels_off": labels_off,
}

if __name__ == "__main__":
    batch.shifted_labels = FAULTS[sys.argv[1]]
    sys.argv = ["megatron-mimo", *sys.argv[2:]]
    sys.exit(main())
