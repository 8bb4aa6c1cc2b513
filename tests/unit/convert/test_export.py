"""From a torch_dist checkpoint to a Hugging Face folder, through the command line's own function and as a program."""

import dataclasses
import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from megatron_mimo.convert import mimo, ops

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def convert_checkpoint():
    """tools/convert_checkpoint.py's `main`."""
    path = REPOSITORY / "tools" / "convert_checkpoint.py"
    spec = importlib.util.spec_from_file_location("convert_checkpoint", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def run_export(convert_checkpoint, tokenizer_folder, tmp_path, capsys):
    """`run(checkpoint)` -> (exit code, standard output, standard error); writes to tmp_path/model."""

    def run(checkpoint: Path, tokenizer: Path | None = tokenizer_folder) -> tuple[int, str, str]:
        arguments = ["export", "--megatron-path", str(checkpoint), "--hf-path", str(tmp_path / "model")]
        code = convert_checkpoint(arguments + (["--tokenizer", str(tokenizer)] if tokenizer else []))
        return code, *capsys.readouterr()

    return run


def assert_refused(result: tuple[int, str, str], folder: Path, *texts: str) -> None:
    code, _, errors = result
    assert code == 2 and all(text in errors for text in texts), errors
    assert not (folder / "model").exists() and not list(folder.glob(".model*"))


def test_weights_config_and_card(write_checkpoint, megatron_weights, run_export, nano, tmp_path: Path) -> None:
    code, output, errors = run_export(write_checkpoint(megatron_weights, versions={"torch": "2.13"}))
    assert (code, errors) == (0, "") and "wrote" in output and "note:" not in output
    stored = {k: t for path in (tmp_path / "model").glob("*.safetensors") for k, t in load_file(path).items()}
    assert stored.keys() == mimo.hugging_face_shapes(nano).keys()
    back = dict(ops.to_megatron(mimo.mimo_ops(nano), stored.__getitem__))
    assert all(torch.equal(back[name], tensor) for name, tensor in megatron_weights.items())
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["rope_theta"], config["max_position_embeddings"]) == (640_000.0, 128), "the stage of the checkpoint"
    card = (tmp_path / "model" / "README.md").read_text()
    assert "1,234 tokens in 7 steps" in card and "| two | 500 | 128 | 640,000 | `two.yaml` |" in card
    assert "torch 2.13" in card


def test_the_earlier_stage_has_its_own_rope_base(
    write_checkpoint, megatron_weights, run_export, tmp_path: Path
) -> None:
    assert run_export(write_checkpoint(megatron_weights, stage="one"))[0] == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["rope_theta"], config["max_position_embeddings"]) == (10_000.0, 64)


def test_a_model_engines_compute_otherwise_is_noted(write_checkpoint, megatron_weights, run_export, nano) -> None:
    model = dataclasses.asdict(dataclasses.replace(nano, mtp_hidden_state="after_final_norm"))
    code, output, _ = run_export(write_checkpoint(megatron_weights, model=model))
    assert code == 0 and "note: The MTP layers were trained with mtp_hidden_state=after_final_norm" in output


def test_wrong_tensors_are_all_named(write_checkpoint, megatron_weights, run_export, tmp_path: Path) -> None:
    wrong = dict(megatron_weights)
    del wrong["mtp.layers.0.eh_proj.weight"]
    wrong["mtp.layers.0.surprise"] = torch.zeros(3)
    wrong["output_layer.weight"] = torch.zeros(10, 32)
    result = run_export(write_checkpoint(wrong))
    assert_refused(
        result,
        tmp_path,
        "missing   mtp.layers.0.eh_proj.weight [32, 64]",
        "extra     mtp.layers.0.surprise [3]",
        "misshaped output_layer.weight: [10, 32], the model needs [384, 32]",
    )


def test_incomplete_damaged_or_foreign_checkpoints(
    write_checkpoint, megatron_weights, run_export, tmp_path: Path
) -> None:
    folder = write_checkpoint(megatron_weights)
    run = json.loads((folder / "run.json").read_text())
    for changes, text in (
        ({"stage": "three"}, "stage 'three' is not among the stages"),
        ({"model": run["model"] | {"num_query_groups": 3}}, "num_query_groups"),
        ({"config": {}}, "is not a run.json of this project"),
        ({"tokenizer_sha256": "0" * 64}, "not the tokenizer the model was trained with"),
    ):
        (folder / "run.json").write_text(json.dumps(run | changes))
        assert_refused(run_export(folder), tmp_path, text)
    (folder / "run.json").write_text("{")
    assert_refused(run_export(folder), tmp_path, "not valid JSON")
    (folder / "run.json").unlink()
    assert_refused(run_export(folder), tmp_path, "no run.json")
    assert_refused(run_export(tmp_path / "nowhere"), tmp_path, "there is no checkpoint folder")


def test_tokenizer_of_the_run(write_checkpoint, megatron_weights, run_export, tokenizer_folder, tmp_path: Path) -> None:
    """The training configuration names it; its hash is checked; a folder that is gone is named with the way out."""
    stages = [{"name": "two", "seq_length": 128, "rotary_base": 640_000, "tokens": 1, "mixture": "m"}]
    config = {"stages": stages, "data": {"tokenizer": str(tokenizer_folder)}}
    sha256 = hashlib.sha256((tokenizer_folder / "tokenizer.json").read_bytes()).hexdigest()
    folder = write_checkpoint(megatron_weights, config=config, tokenizer_sha256=sha256)
    assert run_export(folder, tokenizer=None)[0] == 0
    shutil.rmtree(tmp_path / "model")
    config["data"]["tokenizer"] = str(tmp_path / "gone")
    run = json.loads((folder / "run.json").read_text()) | {"config": config}
    (folder / "run.json").write_text(json.dumps(run))
    assert_refused(run_export(folder, tokenizer=None), tmp_path, "no tokenizer.json", "--tokenizer")


def test_an_existing_destination_stays(write_checkpoint, megatron_weights, run_export, tmp_path: Path) -> None:
    folder = write_checkpoint(megatron_weights)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious").write_text("kept")
    code, _, errors = run_export(folder)
    assert code == 2 and "exists and is not overwritten" in errors
    assert (tmp_path / "model" / "precious").read_text() == "kept"
