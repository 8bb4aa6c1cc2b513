"""Settings changed between two starts, and faults of later stages: found before a step is lost.

The program runs in this process, whose imports all cases share.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo import pretrain
from megatron_mimo.cli.checkpoints import main as checkpoints
from support.needs import needs
from support.tiny import tiny_tree, write_run

needs("megatron.core")
pytestmark = pytest.mark.slow

STEP_TOKENS = 512


def tree_of(data: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    """20 steps in two stages of 15 and 5, saved every 4."""
    tree = tiny_tree(data, folder / "run", 20)
    tree["model"]["num_layers"] = 1
    checkpoint = {"every_steps": 4, "keep_last": 3, "save_at_end": True}
    return tree | {"checkpoint": checkpoint, "evaluation": {"sequences": 1}} | settings


def start(folder: Path, tree: dict[str, Any], *overrides: str) -> int:
    return pretrain.main([str(write_run(folder, tree)), *overrides])


def lines(folder: Path, kind: str = "step") -> list[dict[str, Any]]:
    path = folder / "run" / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in found if line["kind"] == kind]


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("twelve")
    assert start(folder, tree_of(tiny_data, folder), "max_steps=12") == 0
    return folder


@pytest.fixture
def resumed(twelve: Path, tmp_path: Path) -> Path:
    """A copy of a run after 12 steps."""
    shutil.copytree(twelve / "run", tmp_path / "run")
    return tmp_path


def shortened(tree: dict[str, Any], steps: int) -> dict[str, Any]:
    tokens = steps * STEP_TOKENS
    rate = {"kind": "constant", "tokens": tokens, "start": 1e-3, "end": 1e-3}
    tree["stages"][0] |= {"tokens": tokens, "learning_rate": [rate]}
    return tree


@pytest.mark.parametrize("steps", [12, 8])
def test_a_stage_ended_early_starts_the_next(
    steps: int, resumed: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """D08, and a second start in the middle of the new stage."""
    tree = shortened(tree_of(tiny_data, resumed), steps)
    assert start(resumed, tree, "max_steps=15") == 0
    assert "stage1 ends here, after 6,144 tokens" in capsys.readouterr().out
    assert start(resumed, tree) == 0
    stages = [line["stage"] for line in lines(resumed)]
    assert stages == ["stage1"] * 12 + ["stage2"] * 5


def test_a_run_with_a_time_limit_is_saved_and_wants_to_be_started_again(
    twelve: Path, tmp_path: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This process is older than the limit: every start takes a step, no more."""
    tree = tree_of(tiny_data, tmp_path)
    for step in (1, 2):
        assert start(tmp_path, tree, "stop_after_seconds=0.5") == 85
        said = capsys.readouterr().out
        assert "(stop_after_seconds) are over: saving" in said and f"saved after step {step}; resume with: " in said
        assert (tmp_path / "run" / "REQUEUE").is_file()
        assert (tmp_path / "run" / "checkpoints" / f"step_{step:08d}").is_dir()
    assert start(tmp_path, tree, "max_steps=4") == 0
    assert not (tmp_path / "run" / "REQUEUE").exists()
    assert "changed" not in capsys.readouterr().out
    assert [line["loss"] for line in lines(tmp_path)] == [line["loss"] for line in lines(twelve)[:4]]


def test_data_around_a_spike_is_left_out_in_a_branch(
    twelve: Path, tmp_path: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused where it was read already; a branch from before it goes on with what follows, and may be resumed."""
    skip = f"skip_data=[{{after_tokens: {9 * STEP_TOKENS}, tokens: {2 * STEP_TOKENS}}}]"
    shutil.copytree(twelve / "run", tmp_path / "run")
    tree = tree_of(tiny_data, tmp_path)
    assert start(tmp_path, tree, skip) == 2
    assert "skip_data: checkpoint [], configuration ['16 sequences after 72']" in capsys.readouterr().err
    assert checkpoints([str(tmp_path / "run"), "--branch-from", "8", str(tmp_path / "new" / "run")]) == 0
    config = str(tmp_path / "new" / "run" / "config.yaml")
    for last in (11, 13):
        assert pretrain.main([config, skip, f"max_steps={last}"]) == 0
    assert "1,024 tokens of the data are left out after 4,608 tokens (skip_data)" in capsys.readouterr().out
    branched, original = lines(tmp_path / "new"), lines(twelve)
    assert [line["step"] for line in branched] == list(range(1, 14))
    same = [ours["loss"] == theirs["loss"] for ours, theirs in zip(branched, original, strict=False)]
    assert same == [True] * 9 + [False] * 3, "the tenth step reads what the twelfth would have"


def test_a_larger_batch_goes_on(resumed: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """D09"""
    assert start(resumed, tree_of(tiny_data, resumed), "stages.0.global_batch_size=40") == 0
    assert "changed: stages.0.global_batch_size: 8 -> 40" in capsys.readouterr().out
    assert [line["step"] for line in lines(resumed)][:13] == list(range(1, 14))


@pytest.mark.parametrize("key", ["seed", "mixture", "seq_length", "data"])
def test_changes_of_the_data_are_named(
    key: str, resumed: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """D10: refused in the middle of a stage, taken where they are meant."""
    tree = tree_of(tiny_data, resumed)
    if key == "seed":
        tree["seed"] = 7
    if key == "seq_length":
        tree["stages"][0] |= {"seq_length": 32, "global_batch_size": 16}
    if key == "data":
        other = resumed / "other"
        shutil.copytree(tiny_data, other)
        manifest = json.loads((other / "manifest.json").read_text())
        manifest["sources"]["prose"]["train"]["bytes"] += 1
        (other / "manifest.json").write_text(json.dumps(manifest))
        tree["data"]["path"] = str(other)
    config = write_run(resumed, tree)
    if key == "mixture":
        (resumed / "stage1.yaml").write_text("sources: {prose: 0.5, digits: 0.5}\n")
    before = (resumed / "run" / "metrics.jsonl").read_bytes()
    assert pretrain.main([str(config)]) == 2
    assert f"  {key}: " in (errors := capsys.readouterr().err), errors
    assert (resumed / "run" / "metrics.jsonl").read_bytes() == before
    assert pretrain.main([str(config), f"resume.allow=[{key}]", "max_steps=13"]) == 0
    assert lines(resumed)[-1]["step"] == 13


def test_moved_data_is_the_same_data(resumed: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tiny_data, resumed / "moved")
    tree = tree_of(tiny_data, resumed)
    tree["data"] |= {"path": str(resumed / "moved"), "tokenizer": str(resumed / "moved" / "tokenizer")}
    assert start(resumed, tree, "max_steps=13") == 0
    assert "changed" not in capsys.readouterr().out


def test_all_checkpoints_damaged_stops(resumed: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """D03"""
    for path in (resumed / "run" / "checkpoints").glob("step_*/__0_0.distcp"):
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.stat().st_mtime_ns for path in (resumed / "run").rglob("*")}
    assert start(resumed, tree_of(tiny_data, resumed)) == 2
    errors = capsys.readouterr().err
    assert errors.count("passing over the damaged checkpoint") == 3 and f"mv {resumed}/run/checkpoints" in errors
    assert {path: path.stat().st_mtime_ns for path in (resumed / "run").rglob("*")} == before


def test_faults_of_later_stages_are_found_before_the_first_step(
    tmp_path: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """D11: an unknown source; D12: held-out splits shorter than a sequence; a mixture that is not there."""
    config = write_run(tmp_path, tree := tree_of(tiny_data, tmp_path))
    (tmp_path / "stage2.yaml").write_text("sources: {prose: 0.5, letters: 0.5}\n")
    assert pretrain.main([str(config)]) == 2
    assert "letters" in capsys.readouterr().err
    long = "stages.1.seq_length=16384"
    assert start(tmp_path, tree, long) == 2
    assert "held-out split of source 'prose'" in capsys.readouterr().err
    config = write_run(tmp_path, tree)
    (tmp_path / "stage2.yaml").unlink()
    assert pretrain.main([str(config)]) == 2
    assert "stage2.yaml" in capsys.readouterr().err
    assert not lines(tmp_path)


def test_clip_grad_0_clips_nothing(tmp_path: Path, tiny_data: Path) -> None:
    """D14: as a limit that is never reached, not as one of 0."""
    curves = []
    for limit in ("0", "1e9"):
        folder = tmp_path / limit
        assert start(folder, tree_of(tiny_data, folder), f"optimizer.clip_grad={limit}", "max_steps=6") == 0
        curves.append([line["loss"] for line in lines(folder)])
    assert curves[0] == curves[1] and curves[0][-1] < curves[0][0]


def test_a_run_needs_its_start_no_more(
    twelve: Path, tmp_path: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """D23: with checkpoints of its own; all weights, and frozen ones."""
    shutil.copytree(twelve / "run" / "checkpoints", tmp_path / "other")
    for train, layers in (("all", 1), ("new_mtp_layers", 2)):
        folder = tmp_path / train
        tree = tree_of(tiny_data, folder, start={"checkpoint": str(tmp_path / "other"), "train": train})
        tree["model"]["mtp_num_layers"] = layers
        assert start(folder, tree, "max_steps=2") == 0
        (tmp_path / "other").rename(tmp_path / "gone")
        assert start(folder, tree, "max_steps=4") == 0
        assert f"resumed from {folder}/run/checkpoints/step_00000002" in capsys.readouterr().out
        assert len(lines(folder)) == 4
        (tmp_path / "gone").rename(tmp_path / "other")
    assert start(tmp_path / "new", tree_of(tiny_data, tmp_path / "new", start={"checkpoint": "gone"})) == 2


def test_evaluations_come_at_the_same_steps_after_a_resume(tmp_path: Path, tiny_data: Path) -> None:
    """D25"""
    tree = tree_of(tiny_data, tmp_path, evaluation={"sequences": 1, "every_tokens": 4 * STEP_TOKENS})
    assert start(tmp_path, tree, "max_steps=5") == 0
    assert start(tmp_path, tree, "max_steps=14") == 0
    assert [line["step"] for line in lines(tmp_path, "evaluation")] == [4, 8, 12]


class Held:
    """Training data of which nothing is held out."""

    def held_out_samples(self, seq_length: int, sequences: int) -> dict[str, Any]:
        return {}


def test_nothing_held_out_is_no_evaluation(tmp_path: Path, tiny_data: Path) -> None:
    from megatron_mimo.training.evaluation import Evaluator
    from megatron_mimo.training.state import Progress
    from support.tiny import tiny_config

    config = tiny_config(tree_of(tiny_data, tmp_path))
    evaluator = Evaluator(config, Held(), "torch", None)  # type: ignore[arg-type]
    assert evaluator.evaluate(Progress(), config.stages[0]) is None
