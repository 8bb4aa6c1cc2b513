"""Start from another run: the single MTP layer is copied twice, the copies are trained, nothing else moves."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_mimo.convert.export import export_checkpoint
from megatron_mimo.convert.hf_import import import_checkpoint
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.training.checkpoint_record import read_record
from support.launch import ranks
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow

MODULE = ("-m", "megatron_mimo.pretrain")


def run(folder: Path, tree: dict[str, Any], processes: int) -> str:
    done = ranks(processes, *MODULE, str(write_run(folder, tree)))
    return done.stdout + done.stderr if done.returncode else ""


def start_tree(data: Path, folder: Path, source: Path, layers: int, train: str) -> dict[str, Any]:
    tree = tiny_tree(data, folder / "run", steps=8) | {"checkpoint": {"every_steps": 4}}
    tree["model"] = tree["model"] | {"mtp_num_layers": layers}
    return tree | {"start": {"checkpoint": str(source), "train": train}, "mtp_loss": [{"mtp_loss_scaling_factor": 1.0}]}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    tree = tiny_tree(tiny_data, folder / "run", steps=4) | {"checkpoint": {"every_steps": 4}}
    assert not run(folder, tree, processes=2)
    return folder / "run" / "checkpoints"


@pytest.mark.parametrize("parallel", [{}, {"tensor_model_parallel_size": 2}], ids=["DP2", "TP2"])
def test_only_the_new_mtp_layers_are_trained(
    parallel: dict[str, Any], pretrained: Path, tiny_data: Path, tmp_path: Path
) -> None:
    tree = start_tree(tiny_data, tmp_path, pretrained, 3, "new_mtp_layers") | {"parallel": parallel}
    # In two parts: the second resumes from the fine-tuning's own checkpoint.
    for max_steps in (4, 8):
        problem = run(tmp_path, tree | {"max_steps": max_steps}, processes=2)
        assert not problem, problem[-3000:]
    before = TorchDistCheckpoint(pretrained / "step_00000004")
    after = TorchDistCheckpoint(tmp_path / "run" / "checkpoints" / "step_00000008")
    assert set(before.shapes) < set(after.shapes)
    for name in before.shapes:
        assert torch.equal(before.read(name), after.read(name)), name
    new = set(after.shapes) - set(before.shapes)
    assert {name.split(".")[2] for name in new} == {"1", "2"}
    for name in new:
        copied = after.read(name.replace(name[:13], "mtp.layers.0.", 1))
        assert not torch.equal(after.read(name), copied), name
        # A few small steps away from the copy, not somewhere else; biases were close to zero.
        if name.endswith(".bias"):
            continue
        assert torch.nn.functional.cosine_similarity(after.read(name).flatten(), copied.flatten(), dim=0) > 0.8, name


def recursive_tree(data: Path, folder: Path, source: Path, **changes: Any) -> dict[str, Any]:
    tree = start_tree(data, folder, source, 1, "mtp_layers") | {"mtp_step_decay": 0.6} | changes
    return tree | {"model": tree["model"] | {"mtp_recursive_steps": 3}}


def test_the_models_own_layer_learns_to_draft_recursively(pretrained: Path, tiny_data: Path, tmp_path: Path) -> None:
    """In two layouts, and resumed: nothing but the layer moves, and its loss falls at every draft step."""
    curves = []
    for name, parallel in (("DP2", {}), ("TP2", {"tensor_model_parallel_size": 2})):
        tree = recursive_tree(tiny_data, tmp_path / name, pretrained, parallel=parallel)
        for max_steps in (4, 8):
            problem = run(tmp_path / name, tree | {"max_steps": max_steps}, processes=2)
            assert not problem, problem[-3000:]
        lines = (tmp_path / name / "run" / "metrics.jsonl").read_text().splitlines()
        steps = [line for line in map(json.loads, lines) if line["kind"] == "step"]
        assert [len(step["mtp_losses"]) for step in steps] == [3] * 8
        curves.append([loss for step in steps for loss in (step["loss"], *step["mtp_losses"], step["grad_norm"])])
        assert all(last < first for first, last in zip(steps[0]["mtp_losses"], steps[-1]["mtp_losses"], strict=True))
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    checkpoint = tmp_path / "DP2" / "run" / "checkpoints" / "step_00000008"
    before, after = TorchDistCheckpoint(pretrained / "step_00000004"), TorchDistCheckpoint(checkpoint)
    assert set(before.shapes) == set(after.shapes)
    for name in before.shapes:
        assert torch.equal(before.read(name), after.read(name)) != name.startswith("mtp."), name
    export_checkpoint(checkpoint, tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["num_nextn_predict_layers"], config["mtp_recursive_steps"]) == (1, 3)
    import_checkpoint(tmp_path / "hf", tmp_path / "imported" / "step_00000000")
    assert read_record(tmp_path / "imported" / "step_00000000").model.mtp_recursive_steps == 3


def test_training_starts_from_an_imported_model(pretrained: Path, tiny_data: Path, tmp_path: Path) -> None:
    """Exported, imported into the new run's own folder, and started from there: as if from the checkpoint itself."""
    imported, curves = tmp_path / "imported" / "run" / "checkpoints" / "step_00000000", []
    export_checkpoint(pretrained / "step_00000004", tmp_path / "hf")
    import_checkpoint(tmp_path / "hf", imported)
    for name, source in (("direct", pretrained), ("imported", imported)):
        tree = start_tree(tiny_data, tmp_path / name, source, 1, "all") | {"max_steps": 3}
        problem = run(tmp_path / name, tree, processes=2)
        assert not problem, problem[-3000:]
        lines = (tmp_path / name / "run" / "metrics.jsonl").read_text().splitlines()
        steps = [line for line in map(json.loads, lines) if line["kind"] == "step"]
        curves.append([(step["step"], step["loss"], step["grad_norm"]) for step in steps])
    assert len(curves[0]) == 3
    assert curves[0] == curves[1]


def test_another_shape_is_refused(pretrained: Path, tiny_data: Path, tmp_path: Path) -> None:
    tree = start_tree(tiny_data, tmp_path, pretrained, 1, "new_mtp_layers")
    assert "raise model.mtp_num_layers" in run(tmp_path / "same", tree, processes=1)
    tree["model"] |= {"ffn_hidden_size": 128, "mtp_num_layers": 2}
    assert "model.ffn_hidden_size: checkpoint 96, configuration 128" in run(tmp_path / "other", tree, processes=1)
    tree["start"]["checkpoint"] = str(tmp_path)
    assert "holds no complete checkpoint" in run(tmp_path / "none", tree, processes=1)
