"""Weights by broadcast over gloo: what arrives is what was sent, whatever the types, shapes and buckets."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from megatron_mimo.platform.network import free_port
from megatron_mimo.rl import weight_broadcast
from megatron_mimo.rl.weight_broadcast import MeetingPoint, WeightBroadcast, in_buckets

CPU = torch.device("cpu")
SENT = {
    "matrix": torch.randn(7, 5).bfloat16(),
    "transposed": torch.randn(4, 6).T,
    "scalar": torch.tensor(3.0, dtype=torch.float64),
    "bytes": torch.arange(3, dtype=torch.uint8),
    "empty": torch.empty(0, 4),
    "large": torch.randn(100, 10),
}


def point(size: int) -> MeetingPoint:
    return MeetingPoint("127.0.0.1", free_port(), size)


@pytest.mark.parametrize("bucket_bytes", [1, 100, 1 << 20])
def test_every_receiver_gets_every_tensor(bucket_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_broadcast, "BUCKET_BYTES", bucket_bytes)
    where = point(3)

    def receive(rank: int) -> dict[str, torch.Tensor]:
        return dict(WeightBroadcast(where, rank, CPU).receive())

    with ThreadPoolExecutor() as threads:
        received = [threads.submit(receive, rank) for rank in (1, 2)]
        WeightBroadcast(where, 0, CPU).send(SENT.items())
        for future in received:
            found = future.result()
            assert list(found) == list(SENT)
            for name, tensor in SENT.items():
                assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
                assert torch.equal(found[name], tensor), name


class CountedGroup:
    """A gloo group that says how it ended, as NCCL's would free its communicator."""

    def __init__(self, group: Any, ends: list[str]) -> None:
        self._group, self._ends = group, ends

    def __getattr__(self, name: str) -> Any:
        if name in ("shutdown", "abort"):
            self._ends.append(name)
        return getattr(self._group, name)


def test_a_group_ends_with_its_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order after a transfer; at once where a member breaks off, on both sides."""
    ends: list[str] = []
    make = weight_broadcast._process_group
    monkeypatch.setattr(weight_broadcast, "_process_group", lambda *given: CountedGroup(make(*given), ends))
    where = point(2)
    with ThreadPoolExecutor() as threads:
        received = threads.submit(lambda: dict(WeightBroadcast(where, 1, CPU).receive()))
        WeightBroadcast(where, 0, CPU).send(SENT.items())
        received.result()
    assert ends == ["shutdown", "shutdown"]
    ends.clear()
    monkeypatch.setattr(weight_broadcast, "LIMIT", weight_broadcast.timedelta(seconds=1))
    where = point(2)

    def break_off() -> None:
        for _ in WeightBroadcast(where, 1, CPU).receive():
            raise ValueError("the loader does not want it")

    with ThreadPoolExecutor() as threads:
        received = threads.submit(break_off)
        with pytest.raises(RuntimeError):
            WeightBroadcast(where, 0, CPU).send(SENT.items())
        with pytest.raises(ValueError):
            received.result()
    assert "abort" in ends and "shutdown" not in ends


def test_a_receiver_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_broadcast, "LIMIT", weight_broadcast.timedelta(seconds=1))
    with pytest.raises(RuntimeError):
        WeightBroadcast(point(2), 0, CPU)


def test_buckets_keep_order_and_limit() -> None:
    tensors = [(str(n), torch.zeros(n)) for n in (4, 4, 9, 1, 1, 20)]
    buckets = list(in_buckets(tensors, limit_bytes=40))
    assert [[name for name, _ in bucket] for bucket in buckets] == [["4", "4"], ["9", "1"], ["1"], ["20"]]
