"""The trainer's ranks under Ray: the same weights as without, and a dead rank ends the call and the others."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from megatron_mimo.config import UserError
from megatron_mimo.rl.trainer_actors import TrainerFailed, TrainerGroup
from megatron_mimo.rl.weight_broadcast import WeightBroadcast
from support.launch import environment
from support.needs import needs
from support.patience import patience
from support.rl_tiny import load_weights, make_groups, make_start, rl_config, rl_tree

needs("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    import ray

    variables = {"PYTHONPATH": environment()["PYTHONPATH"], "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    return make_start(tmp_path_factory.mktemp("start"), tiny_data / "tokenizer")


async def broadcast(group: TrainerGroup) -> dict[str, torch.Tensor]:
    """What a receiver in this process gets."""
    point = await group.meeting_point(1)
    receiver = asyncio.to_thread(lambda: dict(WeightBroadcast(point, 1, torch.device("cpu")).receive()))
    failure, received = await asyncio.gather(group.send_weights(point), receiver)
    assert failure is None
    return received


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def ranks() -> list[psutil.Process]:
    """Of this test's own cluster."""
    return [p for p in psutil.Process().children(recursive=True) if "TrainerRank" in " ".join(p.cmdline())]


async def first_life(config: Any, folder: Path) -> None:
    """A step, a checkpoint, another step; then a rank is killed while it trains."""
    group = TrainerGroup(config)
    await group.start()
    assert await group.restore() is None
    metrics = await group.train(make_groups(1))
    assert metrics["updates"] == 2
    await group.save(1, {"pool": ["a"]})
    await group.train(make_groups(2))
    await group.write_weights(folder / "whole")
    assert_same(await broadcast(group), load_weights(folder / "whole"))
    victim, *others = ranks()
    victim.kill()
    with pytest.raises(TrainerFailed, match="resumes from its last checkpoint"):
        await group.train(make_groups(3))
    _, alive = psutil.wait_procs(others, timeout=patience(20))
    assert others and not alive, "the others do not wait for the dead"
    with pytest.raises(TrainerFailed, match="gone"):
        await group.train(make_groups(3))
    await group.close()


async def second_life(config: Any, folder: Path) -> None:
    group = TrainerGroup(config)
    await group.start()
    assert await group.restore() == (1, {"pool": ["a"]})
    await group.train(make_groups(2))
    await group.write_weights(folder / "resumed")
    await group.close()


def test_a_killed_rank_ends_the_trainer_and_a_new_one_goes_on(start: Path, tmp_path: Path) -> None:
    config = rl_config(rl_tree(start, tmp_path / "run", data_parallel_size=2))
    asyncio.run(first_life(config, tmp_path))
    asyncio.run(second_life(config, tmp_path))
    assert_same(load_weights(tmp_path / "whole"), load_weights(tmp_path / "resumed"))


def test_what_a_rank_refuses_reaches_the_user(start: Path, tmp_path: Path) -> None:
    tree = rl_tree(start, tmp_path / "run")
    tree["model"] = tree["model"] | {"mtp_num_layers": 0}
    with pytest.raises(UserError, match="mtp_num_layers = 0.*has 1 MTP layers"):
        asyncio.run(TrainerGroup(rl_config(tree)).start())
