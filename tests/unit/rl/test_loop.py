"""The RL loop on simulated engines in virtual time: what it calls, saves, records; stops and resumes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import ModelConfig, RLConfig, StartConfig
from megatron_mimo.config.rl import GenerationConfig, LengthBudget, RLDataConfig, RolloutConfig
from megatron_mimo.config.run import CheckpointConfig
from megatron_mimo.record.rows import read_rows
from megatron_mimo.rl.engine_protocol import EngineDied
from megatron_mimo.rl.loop import FINISHED, PREEMPTED, RLLoop, restored_scheduler_state
from megatron_mimo.rl.policy_weights import PolicyWeights
from megatron_mimo.rl.sample import SampleGroup
from megatron_mimo.rl.scheduler.virtual_time import run_in_virtual_time
from megatron_mimo.rl.trace import Trace
from rl_world import FaultyEngine, World, make_prompts

MODEL = ModelConfig(
    num_layers=1,
    hidden_size=64,
    ffn_hidden_size=64,
    num_attention_heads=2,
    num_query_groups=1,
    kv_channels=32,
    vocab_size=128,
    mtp_num_layers=1,
)


def config(output_dir: Path, **options: Any) -> RLConfig:
    return RLConfig(
        name="test",
        output_dir=str(output_dir),
        model=MODEL,
        start=StartConfig(checkpoint="-"),
        data=RLDataConfig(train=["-"]),
        rollout=RolloutConfig(num_groups=8, samples_per_prompt=4, generation=GenerationConfig(max_new_tokens=200)),
        mini_batch_groups=4,
        validation_interval_steps=2,
        validation_samples=2,
        checkpoint=CheckpointConfig(every_steps=2),
        **options,
    )


class RecordingTrainer:
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[SampleGroup]] = []
        self.saved: list[tuple[int, str]] = []
        self.versions: list[str] = []

    async def train(self, groups: Any) -> dict[str, float]:
        await asyncio.sleep(30.0)
        self.batches.append(list(groups))
        return {"loss": 0.5}

    async def write_weights(self, folder: Path) -> None:
        folder.mkdir()
        self.versions.append(folder.name)

    async def save(self, step: int, driver_state: dict[str, Any]) -> None:
        self.saved.append((step, json.dumps(driver_state)))


class FollowingEngine(FaultyEngine):
    """A simulated engine that notes its weights, and may die of them once."""

    dies_once = False

    async def update_weights(self, folder: Path, policy_version: int) -> None:
        assert folder.is_dir()
        self.policy_version = policy_version
        if self.dies_once:
            self.dies_once = False
            raise EngineDied("while loading")


class Scene:
    """A loop and everything it was made of."""

    def __init__(self, config: RLConfig, step: int = 0, saved: dict[str, Any] | None = None) -> None:
        self.world, self.trainer = World(), RecordingTrainer()
        scheduler = self.world.scheduler(saved)
        for engine in self.world.engines:
            engine.__class__ = FollowingEngine
        self.engines: list[Any] = list(self.world.engines)
        output_dir = Path(config.output_dir)
        self.weights = PolicyWeights(output_dir.parent, "test")
        self.trace = Trace(output_dir, config.num_steps, step)
        self.loop = RLLoop(
            config,
            trainer=self.trainer,
            engines=self.engines,
            reward=self.world.reward,
            prompts=self.world.prompts,
            validation_prompts=make_prompts(10),
            scheduler=scheduler,
            weights=self.weights,
            trace=self.trace,
            step=step,
        )
        self.output_dir = output_dir


def test_a_run_trains_sends_validates_and_saves(tmp_path: Path) -> None:
    scene = Scene(config(tmp_path / "run", num_steps=4))
    assert run_in_virtual_time(scene.loop.fit()) == FINISHED
    assert [len(batch) for batch in scene.trainer.batches] == [8] * 4
    assert all(group.has_signal for batch in scene.trainer.batches for group in batch)
    assert scene.trainer.versions == ["version_1", "version_2", "version_3", "version_4"]
    assert {engine.policy_version for engine in scene.engines} == {4}
    assert [step for step, _ in scene.trainer.saved] == [2, 4]
    rows = list(read_rows(scene.output_dir / "metrics.jsonl"))
    assert [(row["kind"], row["step"]) for row in rows] == [
        ("validation", 0), ("step", 1), ("step", 2), ("validation", 2), ("step", 3), ("step", 4), ("validation", 4),
    ]  # fmt: skip
    # Of ten prompts, two each are solved with probability 0, 0.3, 0.5, 0.8, 1: the mean is 0.52.
    assert rows[0]["low"] <= 0.52 <= rows[0]["high"] and rows[0]["samples"] == 2
    problems = list(read_rows(scene.output_dir / "validation_problems.jsonl"))
    assert [row["step"] for row in problems] == [0, 2, 4]
    for row, whole in zip(problems, (row for row in rows if row["kind"] == "validation"), strict=True):
        shares = [share for domain in row["problems"].values() for share in domain.values()]
        assert len(shares) == 10 and sum(shares) / 10 == pytest.approx(whole["solved"]) and "problems" not in whole


def test_records_agree_with_the_groups(tmp_path: Path) -> None:
    scene = Scene(config(tmp_path / "run", num_steps=1))
    run_in_virtual_time(scene.loop.fit())
    row = next(row for row in read_rows(scene.output_dir / "metrics.jsonl") if row["kind"] == "step")
    assert sum(row["outcomes"].values()) == scene.loop._scheduler.num_launched
    assert row["outcomes"]["selected"] == 8
    lengths = [len(sample.tokens) for group in scene.trainer.batches[0] for sample in group.finished]
    assert row["selected_tokens"] == pytest.approx(sum(lengths) / len(lengths))
    assert 0 < row["idle_ratio"] < 1 and row["trainer"] == {"loss": 0.5}
    spans = json.loads((scene.output_dir / "timeline.json").read_text())["spans"]
    generated = [span for span in spans if span["kind"] == "generation" and span["outcome"] == "selected"]
    assert len(generated) == 8 * 4


def test_only_the_newest_weights_stay(tmp_path: Path) -> None:
    scene = Scene(config(tmp_path / "run", num_steps=3))
    run_in_virtual_time(scene.loop.fit())
    assert scene.weights.current is not None
    assert [folder.name for folder in scene.weights.current.parent.iterdir()] == ["version_3"]
    scene.weights.close()
    assert not scene.weights.current.parent.exists()


def test_an_engine_that_dies_of_new_weights_is_restarted(tmp_path: Path) -> None:
    scene = Scene(config(tmp_path / "run", num_steps=2))
    scene.engines[0].dies_once = True
    assert run_in_virtual_time(scene.loop.fit()) == FINISHED


def test_the_length_budget_follows_its_schedule(tmp_path: Path) -> None:
    budgets = [LengthBudget(from_step=0, max_new_tokens=20), LengthBudget(from_step=1, max_new_tokens=60)]
    scene = Scene(config(tmp_path / "run", num_steps=2, length_schedule=budgets))
    run_in_virtual_time(scene.loop.fit())
    longest = [max(len(s.tokens) for g in batch for s in g.finished) for batch in scene.trainer.batches]
    assert longest[0] <= 20 < longest[1] <= 60


@pytest.mark.parametrize("stop_after_seconds", [1.0, 40.0, 100.0])
def test_a_stopped_run_saves_and_goes_on_with_the_same_launches(tmp_path: Path, stop_after_seconds: float) -> None:
    settings = config(tmp_path / "run", num_steps=3)
    scene = Scene(settings)

    async def stopped() -> str:
        asyncio.get_running_loop().call_later(stop_after_seconds, scene.loop.stop.set)
        return await scene.loop.fit()

    assert run_in_virtual_time(stopped()) == PREEMPTED
    step, state = scene.trainer.saved[-1] if scene.trainer.saved else (0, json.dumps({"scheduler": None}))
    assert step == scene.loop.step
    saved = restored_scheduler_state(scene.output_dir, step, json.loads(state))
    assert saved["next_launch"] == scene.loop._scheduler.num_launched
    again = Scene(settings, step, saved)
    assert run_in_virtual_time(again.loop.fit()) == FINISHED
    assert [group.launch_index for batch in again.trainer.batches for group in batch] == sorted(
        {group.launch_index for batch in again.trainer.batches for group in batch}
    )
    rows = list(read_rows(again.output_dir / "metrics.jsonl"))
    assert [row["step"] for row in rows if row["kind"] == "step"] == [1, 2, 3]
    problems = read_rows(again.output_dir / "validation_problems.jsonl")
    assert [row["step"] for row in problems] == [row["step"] for row in rows if row["kind"] == "validation"]


def test_the_report_is_made_of_the_folder_alone(tmp_path: Path) -> None:
    scene = Scene(config(tmp_path / "run", num_steps=2))
    run_in_virtual_time(scene.loop.fit())
    scene.trace.close()
    page = (scene.output_dir / "report.html").read_text()
    for part in ("held-out pass@1", "Timeline of step 2", "easy-data pool", "engines idle", "engine0", "rewards"):
        assert part in page
