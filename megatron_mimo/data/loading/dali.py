"""The optional DALI backend: the same samples in the same order, handed through a DALI pipeline.

Token ids need no decoding, so this is not faster than the torch loader; it is for machines whose input runs on DALI.
The pipeline has no device (`device_id=None`): batches arrive in host memory, where documents are looked for and labels
shifted; from there they go to the device through pinned memory, as the torch loader's do. `s` = sequence length.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
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

    Yields what `loader.Batch` has: `tokens` int64 [n, s + 1] and `source` int64 [n], of packed samples also `segments`
    int64 and `loss_mask` bool [n, s + 1]. Up to `num_threads` batches (at least one) are read ahead.
    """
    fn, pipeline_class = _import_dali()
    batches = _arrays(dataset, index_batches)
    first = next(batches, None)
    if first is None:
        return iter(())
    names = list(first)
    depth = max(1, num_threads)
    # A batch of the pipeline is one sample, a whole micro-batch, so that micro-batches may grow (batch ramp).
    pipeline = pipeline_class(batch_size=1, num_threads=depth, device_id=None, prefetch_queue_depth=depth)
    fields = (tuple(batch[name] for name in names) for batch in chain([first], batches))
    with pipeline:
        pipeline.set_outputs(*fn.external_source(source=fields, num_outputs=len(names), batch=False))
    pipeline.build()
    return _batches(pipeline, names)


def _import_dali() -> tuple[Any, Any]:
    try:
        from nvidia.dali import fn
        from nvidia.dali.pipeline import Pipeline
    except ImportError as error:
        raise UserError(
            f"data.loader=dali needs NVIDIA DALI, which cannot be imported ({error})."
            "\nInstall it (pip install nvidia-dali-cuda130), or set data.loader=torch: it gives the same samples."
        ) from error
    return fn, Pipeline


def _arrays(dataset: Any, index_batches: Iterable[list[int]]) -> Iterator[dict[str, np.ndarray]]:
    for indices in index_batches:
        samples = [dataset[index] for index in indices]
        yield {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _batches(pipeline: Any, names: list[str]) -> Iterator[dict[str, Tensor]]:
    while True:
        try:
            outputs = pipeline.run()
        except StopIteration:
            return
        # DALI uses its buffers again for a later batch: copy.
        yield {name: torch.from_numpy(np.array(output.at(0))) for name, output in zip(names, outputs, strict=True)}
