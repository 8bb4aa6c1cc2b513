"""Weights from the trainer's first rank into every engine worker, from memory to memory: NCCL on GPUs, gloo on CPUs.

The process group lives for one transfer: an engine that was restarted in between has nothing to catch up with.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 1 << 28
"""Of one broadcast, the work space on either side; a larger tensor travels alone."""
ALIGNMENT_BYTES = 16
LIMIT = timedelta(minutes=5)
"""For a process to appear, and for each broadcast."""


@dataclass(frozen=True)
class MeetingPoint:
    """Where the processes of one transfer find each other."""

    host: str
    port: int
    size: int
    """The sender, which is rank 0, and all receivers."""


class WeightBroadcast:
    """One process's end of a transfer."""

    def __init__(self, point: MeetingPoint, rank: int, device: torch.device) -> None:
        """Returns when all have come. Raises torch's DistError where one stays away."""
        self._device, self._size = device, point.size
        self._store = dist.TCPStore(point.host, point.port, point.size, is_master=rank == 0, timeout=LIMIT)
        self._group = _process_group(self._store, rank, point.size, device)

    def send(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Rank 0's part. Returns when every receiver has everything; raises RuntimeError where one is lost."""
        number = 0
        with self._only_once():
            for bucket in in_buckets(tensors, BUCKET_BYTES):
                entries = [(name, _name(tensor.dtype), list(tensor.shape)) for name, tensor in bucket]
                self._store.set(_key(number), json.dumps(entries))
                self._exchange(packed([tensor for _, tensor in bucket], self._device))
                number += 1
            self._store.set(_key(number), "[]")

    def receive(self) -> Iterator[tuple[str, Tensor]]:
        """The others' part: names and tensors on this process's device, to be taken to the end."""
        with self._only_once():
            for number in itertools.count():
                entries = json.loads(self._store.get(_key(number)))
                if not entries:
                    break
                places = [(name, getattr(torch, dtype), shape) for name, dtype, shape in entries]
                ends = list(itertools.accumulate(_aligned(prod(shape) * dtype.itemsize) for _, dtype, shape in places))
                # A new buffer each time: the loader keeps tensors until their layer is complete.
                buffer = torch.empty(ends[-1], dtype=torch.uint8, device=self._device)
                self._exchange(buffer)
                for (name, dtype, shape), start in zip(places, [0, *ends], strict=False):
                    yield name, buffer[start : start + prod(shape) * dtype.itemsize].view(dtype).view(shape)

    @contextmanager
    def _only_once(self) -> Iterator[None]:
        """One transfer, then the group's end: NCCL's communicators outlive the object that made them."""
        try:
            yield
            self._part()
        except BaseException:
            # Where a member is lost, an end in order would wait for it.
            self._group.abort()
            raise
        self._group.shutdown()

    def _exchange(self, buffer: Tensor) -> None:
        self._group.broadcast([buffer], dist.BroadcastOptions()).wait()

    def _part(self) -> None:
        """Wait for all: the sender's store must outlive the receivers' last question."""
        present = torch.ones(1, device=self._device)
        self._group.allreduce([present], dist.AllreduceOptions()).wait()
        assert int(present) == self._size


def in_buckets(tensors: Iterable[tuple[str, Tensor]], limit_bytes: int) -> Iterator[list[tuple[str, Tensor]]]:
    """In the same order, as many together as `limit_bytes` holds, at least one."""
    bucket: list[tuple[str, Tensor]] = []
    total_bytes = 0
    for name, tensor in tensors:
        if bucket and total_bytes + tensor.nbytes > limit_bytes:
            yield bucket
            bucket, total_bytes = [], 0
        bucket.append((name, tensor))
        total_bytes += tensor.nbytes
    if bucket:
        yield bucket


def packed(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Their bytes one after another, each at a multiple of ALIGNMENT_BYTES."""
    ends = list(itertools.accumulate(_aligned(tensor.nbytes) for tensor in tensors))
    buffer = torch.empty(ends[-1], dtype=torch.uint8, device=device)
    for tensor, start in zip(tensors, [0, *ends], strict=False):
        buffer[start : start + tensor.nbytes] = tensor.contiguous().view(-1).view(torch.uint8)
    return buffer


def _process_group(store: dist.Store, rank: int, size: int, device: torch.device) -> Any:
    """A group beside the default one, of processes that share none."""
    if device.type != "cuda":
        return dist.ProcessGroupGloo(store, rank, size, LIMIT)
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = LIMIT
    return dist.ProcessGroupNCCL(store, rank, size, options)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _key(number: int) -> str:
    return f"bucket {number}"
