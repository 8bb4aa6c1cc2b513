"""The DALI loader against the torch loader: the same batches in the same order, or a clear error."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megatron_mimo.config import DataConfig, UserError
from megatron_mimo.data.chat.dataset import PackedRows
from megatron_mimo.data.chat.template import EncodedSample
from megatron_mimo.data.loading.datasets import build_stage_dataset
from megatron_mimo.data.loading.loader import build_loader

INDEX_BATCHES = [[0, 1], [4, 5, 6, 7], [2], [31, 30]]


@pytest.mark.parametrize("num_workers", [0, 3])
def test_same_batches_as_torch(num_workers: int, data_config: DataConfig, write_mixture: Callable[[str], Path]) -> None:
    pytest.importorskip("nvidia.dali")
    mixture = write_mixture("sources: {letters: 0.5, words: 0.3, numbers: 0.2}")
    dataset = build_stage_dataset(data_config, mixture, 16, 32, seed=1)
    dali = dataclasses.replace(data_config, loader="dali", num_workers=num_workers)
    expected = list(build_loader(dataset, INDEX_BATCHES, data_config))
    found = list(build_loader(dataset, INDEX_BATCHES, dali))
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one)


def test_packed_samples_come_whole(data_config: DataConfig) -> None:
    """Segments and loss masks of chat data, with the last batch's rows of padding."""
    pytest.importorskip("nvidia.dali")
    generator = np.random.default_rng(3)
    samples = [EncodedSample(generator.integers(0, 99, n).astype(np.int32), generator.random(n) < 0.6) for n in (9, 5)]
    reader: Any = samples
    rows = PackedRows(reader, [np.array([0, 1]), np.array([1])], seq_length=16, pad_token_id=0)
    batches = [[0, 1], [1], [0, 2]]
    expected = list(build_loader(rows, batches, data_config))
    found = list(build_loader(rows, batches, dataclasses.replace(data_config, loader="dali", num_workers=1)))
    assert [batch.keys() for batch in found] == [{"tokens", "segments", "loss_mask", "source"}] * 3
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in other)


def test_no_batches_are_no_error(data_config: DataConfig) -> None:
    pytest.importorskip("nvidia.dali")
    nothing: Any = []
    assert list(build_loader(nothing, [], dataclasses.replace(data_config, loader="dali"))) == []


def test_missing_dali(
    data_config: DataConfig, write_mixture: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    dataset = build_stage_dataset(data_config, write_mixture("sources: {letters: 1}"), 16, 32, seed=1)
    with pytest.raises(UserError, match=r"data\.loader=torch"):
        build_loader(dataset, INDEX_BATCHES, dataclasses.replace(data_config, loader="dali"))
