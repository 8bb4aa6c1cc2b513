"""The optional DALI backend: the same samples in the same order, handed through a DALI pipeline.

Token ids need no decoding, so this is not faster than the torch loader; it is for machines whose input runs on DALI.
The pipeline has no device (`device_id=None`): batches arrive in host memory. `s` = sequence length.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from megatron_mimo.config import UserError


def build_dali_loader(
    dataset: Dataset, index_batches: Iterable[list[int]], num_threads: int
) -> Iterator[dict[str, Tensor]]:
    """As `loader.build_loader`; raises UserError where DALI is not installed.

    Yields `tokens` int64 [n, s + 1] and `source` int64 [n]; up to `num_threads` batches (at least one) are read ahead.
    """
    pipeline = _build_pipeline(_arrays(dataset, index_batches), max(1, num_threads))
    return _batches(pipeline)


def _arrays(dataset: Dataset, index_batches: Iterable[list[int]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for indices in index_batches:
        samples = [dataset[index] for index in indices]
        sources = np.array([sample["source"] for sample in samples], dtype=np.int64)
        yield np.stack([sample["tokens"] for sample in samples]), sources


def _build_pipeline(arrays: Iterator[tuple[np.ndarray, np.ndarray]], num_threads: int) -> Any:
    """A pipeline of batch size 1 whose one sample is a whole micro-batch, so that batches may grow (batch ramp)."""
    try:
        from nvidia.dali import fn
        from nvidia.dali.pipeline import Pipeline
    except ImportError as error:
        raise UserError(
            f"data.loader=dali needs NVIDIA DALI, which cannot be imported ({error})."
            "\nInstall it (pip install nvidia-dali-cuda130), or set data.loader=torch: it gives the same samples."
        ) from error
    pipeline = Pipeline(batch_size=1, num_threads=num_threads, device_id=None, prefetch_queue_depth=num_threads)
    with pipeline:
        outputs = fn.external_source(source=arrays, num_outputs=2, batch=False)
        pipeline.set_outputs(*outputs)
    pipeline.build()
    return pipeline


def _batches(pipeline: Any) -> Iterator[dict[str, Tensor]]:
    while True:
        try:
            tokens, sources = pipeline.run()
        except StopIteration:
            return
        # DALI uses its buffers again for a later batch: copy.
        yield {"tokens": torch.from_numpy(np.array(tokens.at(0))), "source": torch.from_numpy(np.array(sources.at(0)))}
