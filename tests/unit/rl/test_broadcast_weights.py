"""Which way weights take: broadcast to those who listen, a folder for those who start anew."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.rl.engine_protocol import EngineDied
from megatron_mimo.rl.policy_weights import BroadcastWeights
from megatron_mimo.rl.weight_broadcast import MeetingPoint


class Trainer:
    """Notes the folders that it wrote and the meetings that it called."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.meetings: list[int] = []
        self.failure: str | None = None

    async def write_weights(self, folder: Path) -> None:
        folder.mkdir()
        self.folders.append(folder.name)

    async def meeting_point(self, num_receivers: int) -> MeetingPoint:
        self.meetings.append(num_receivers)
        return MeetingPoint("host", 1, 1 + num_receivers)

    async def send_weights(self, point: MeetingPoint) -> str | None:
        return self.failure


class Engine:
    """Notes where its weights came from."""

    max_concurrent_requests = 1

    def __init__(self, num_workers: int = 1, *, dies: bool = False) -> None:
        self.name, self.num_workers, self.is_running, self._dies = "engine", num_workers, True, dies
        self.sources: list[str] = []
        self.folder: Callable[[], Awaitable[Path]] | None = None

    async def generate(self, request: object) -> object:
        raise NotImplementedError

    async def restart(self) -> None:
        assert self.folder is not None
        self.is_running = True
        self.sources.append(f"restarted on {(await self.folder()).name}")

    async def update_weights(self, folder: Path, policy_version: int) -> None:
        assert folder.is_dir()
        self.is_running = True
        self.sources.append(folder.name)

    async def receive_weights(
        self, point: MeetingPoint, first_rank: int, policy_version: int, folder: Callable[[], Awaitable[Path]]
    ) -> None:
        self.folder = folder
        if self._dies:
            self.is_running = False
            raise EngineDied("gone")
        self.sources.append(f"rank {first_rank} of {point.size}")


def send(weights: BroadcastWeights, trainer: Trainer, engines: list[Engine], version: int = 1) -> None:
    asyncio.run(weights.send(trainer, engines, version))  # type: ignore[arg-type]


@pytest.fixture
def weights(tmp_path: Path) -> BroadcastWeights:
    return BroadcastWeights(tmp_path, "test")


def test_every_worker_has_its_rank_and_nothing_is_written(weights: BroadcastWeights) -> None:
    trainer, engines = Trainer(), [Engine(2), Engine(1), Engine(4)]
    send(weights, trainer, engines)
    assert [engine.sources for engine in engines] == [["rank 1 of 8"], ["rank 3 of 8"], ["rank 4 of 8"]]
    assert trainer.meetings == [7] and trainer.folders == []


def test_engines_that_were_away_start_on_a_folder(weights: BroadcastWeights) -> None:
    trainer, engines = Trainer(), [Engine(), Engine()]
    engines[0].is_running = False
    send(weights, trainer, engines)
    assert [engine.sources for engine in engines] == [["version_1"], ["rank 1 of 2"]]


def test_an_engine_that_dies_later_comes_back_with_the_same_weights(weights: BroadcastWeights) -> None:
    trainer, engines = Trainer(), [Engine(), Engine()]
    send(weights, trainer, engines, version=3)
    for engine in engines:
        asyncio.run(engine.restart())
    assert [engine.sources[-1] for engine in engines] == ["restarted on version_3"] * 2
    assert trainer.folders == ["version_3"]


def test_a_folder_goes_when_newer_weights_have_arrived(weights: BroadcastWeights) -> None:
    trainer, engines = Trainer(), [Engine(), Engine()]
    folders = [asyncio.run(weights.write(trainer, 0))]
    engines[0].is_running = False
    send(weights, trainer, engines, version=1)
    assert weights.current is not None and weights.current.is_dir() and not folders[0].exists()
    folders.append(weights.current)
    send(weights, trainer, engines, version=2)
    assert weights.current is None and not folders[1].exists()


@pytest.mark.parametrize("whose", ["trainer", "engine"])
def test_a_broadcast_that_fails_is_made_good_by_a_folder(
    weights: BroadcastWeights, whose: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, engines = Trainer(), [Engine(), Engine(dies=whose == "engine")]
    trainer.failure = "connection lost" if whose == "trainer" else None
    send(weights, trainer, engines)
    assert [engine.sources[-1] for engine in engines] == ["version_1"] * 2
    assert ("connection lost" if whose == "trainer" else "gone") in caplog.text


def test_weights_that_are_wrong_are_not_sent_another_way(weights: BroadcastWeights) -> None:
    class Broken(Trainer):
        async def send_weights(self, point: MeetingPoint) -> str | None:
            raise UserError("not finite")

    trainer = Broken()
    with pytest.raises(UserError, match="not finite"):
        send(weights, trainer, [Engine()])
    assert trainer.folders == []
