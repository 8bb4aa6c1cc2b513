"""Batches for one rank: the rank's own sample indices in, tensors out."""

import gc
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from megatron_mimo.config import DataConfig
from megatron_mimo.data.loading.datasets import Sample
from megatron_mimo.platform.signals import end_with_parent_process, hear_parent_alone, signals_deferred

Batch = dict[str, Tensor]
"""`tokens`: int64 [n, s + 1], `source`: int64 [n]; packed samples also bring `segments` and `loss_mask` [n, s + 1]."""


def build_loader(dataset: Any, index_batches: Iterable[list[int]], data: DataConfig) -> Iterator[Batch]:
    """Yield one batch for each list of sample indices, in that order, through the loader `data` names.

    Raises UserError for the DALI loader where DALI is not installed.
    """
    if data.loader == "dali":
        from megatron_mimo.data.loading.dali import build_dali_loader

        return build_dali_loader(dataset, index_batches, data.num_workers)
    loader = DataLoader(
        dataset,
        batch_sampler=_Batches(index_batches),
        num_workers=data.num_workers,
        collate_fn=collate,
        worker_init_fn=_start_worker,
    )
    # A signal to every process stops the rank after its step, and the rank needs its workers until then.
    with signals_deferred():
        return iter(loader)


def _start_worker(worker: int) -> None:
    # The training loop that forks workers collects by its own steps (platform/garbage.py), which they do not see.
    gc.enable()
    end_with_parent_process()
    hear_parent_alone()


def collate(samples: list[Sample]) -> Batch:
    """Stack n samples: `source` to [n], everything else to [n, s + 1]."""
    arrays = [name for name in samples[0] if name != "source"]
    stacked = {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in arrays}
    return stacked | {"source": torch.tensor([sample["source"] for sample in samples], dtype=torch.int64)}


class _Batches:
    """What DataLoader wants of a batch sampler: something to iterate over, without a length."""

    def __init__(self, index_batches: Iterable[list[int]]) -> None:
        self._index_batches = index_batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._index_batches)
