"""The policy that an RL run started from, for a KL term: its weights in host memory, put in place to score rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.rl.policy_step import PolicyStep
from megatron_mimo.rl.train_batch import Row


class ReferencePolicy:
    """A copy of this rank's parameters as they are when it is made; `modules`: this rank's parts of the model."""

    def __init__(self, modules: list[Any]) -> None:
        self._parameters = [parameter for module in modules for parameter in module.parameters()]
        self._weights = host_copy(self._parameters)

    def score(self, step: PolicyStep, parts: list[list[Row]]) -> list[list[Row]]:
        """The rows of every mini-batch with `reference_logprobs`, on the last pipeline stage. The model's weights are
        as before afterwards. They are exchanged once for all mini-batches: that moves the whole model twice."""
        with self._in_place():
            scored = [step.score(rows)[0] for rows in parts]
        pairs = zip(parts, scored, strict=True)
        return [[with_reference(*rows) for rows in zip(*pair, strict=True)] for pair in pairs]

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        present = host_copy(self._parameters)
        put(self._weights, self._parameters)
        try:
            yield
        finally:
            put(present, self._parameters)


def with_reference(row: Row, scored: Row) -> Row:
    """The row with the log-probabilities that the reference gave it; `scored` has them as its old ones."""
    return replace(row, reference_logprobs=scored.old_logprobs)


@torch.no_grad()
def host_copy(parameters: list[Tensor]) -> list[Tensor]:
    """Copies in host memory."""
    return [parameter.detach().to("cpu", copy=True) for parameter in parameters]


@torch.no_grad()
def put(values: list[Tensor], parameters: list[Tensor]) -> None:
    """Overwrite the parameters, in the memory that the optimizer knows."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
