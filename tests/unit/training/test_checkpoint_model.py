"""`model: {from: CHECKPOINT}` in the programs that train, and the checkpoints that `export` and `import` mean."""

from dataclasses import replace
from pathlib import Path

import pytest

from megatron_mimo import pretrain, sft
from megatron_mimo.cli import draft
from megatron_mimo.cli.export import checkpoint_of
from megatron_mimo.cli.import_model import step_of
from megatron_mimo.config import ModelConfig, RLConfig, UserError, load
from megatron_mimo.training.checkpoint_model import model_of
from support.paths import ROOT
from support.records import MODEL, write_checkpoint

NANO = ROOT / "examples" / "nano"
LARGER = replace(MODEL, num_layers=3)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    folder = tmp_path / "first" / "checkpoints"
    write_checkpoint(folder, 10)
    write_checkpoint(folder, 20, model=LARGER)
    return folder


def recipe(folder: Path, name: str, model: str) -> str:
    text = (NANO / f"{name}.yaml").read_text()
    own = "model: {mtp_num_layers: 3}\n"
    text = text.replace(own, "") if own in text else text
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("base: model.yaml\n", f"{model}\n"))
    return str(path)


def test_every_kind_of_folder(checkpoints: Path, tmp_path: Path) -> None:
    for place in (checkpoints, checkpoints.parent, checkpoints / "step_00000020"):
        assert ModelConfig(**model_of(str(place), None)) == LARGER
    assert ModelConfig(**model_of(str(checkpoints / "step_00000010"), None)) == MODEL
    with pytest.raises(UserError, match="there is no checkpoint"):
        model_of(str(tmp_path / "nothing"), str(tmp_path / "new"))


def test_a_run_resumes_when_what_it_started_from_is_gone(checkpoints: Path, tmp_path: Path) -> None:
    assert ModelConfig(**model_of(str(tmp_path / "gone"), str(checkpoints.parent))) == LARGER


def test_fine_tuning_rl_and_mtp_layers_take_the_shape_of_their_start(checkpoints: Path, tmp_path: Path) -> None:
    start = f"start.checkpoint={checkpoints}"
    tuned = sft.settings([recipe(tmp_path, "sft", "model: {from: start.checkpoint}"), start])
    assert tuned is not None and tuned.model == LARGER
    more = pretrain.settings(
        [recipe(tmp_path, "finetune_mtp", "model: {from: start.checkpoint, mtp_num_layers: 3}"), start]
    )
    assert more is not None and more.model == replace(LARGER, mtp_num_layers=3)
    rl = load(RLConfig, [recipe(tmp_path, "rl", f"model: {{from: {checkpoints}}}"), start], model_of)
    assert rl.model == LARGER


def test_draft_trains_no_whole_model(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([str(NANO / "pretrain.yaml")], [str(NANO / "finetune_mtp.yaml"), "start.train=all"]):
        assert draft.main(words) == 2
        assert "draft freezes the model" in capsys.readouterr().err


def test_export_takes_the_newest_checkpoint_that_is_whole(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkpoint_of(checkpoints.parent) == checkpoints / "step_00000020"
    (checkpoints / "step_00000020" / "__0_0.distcp").write_bytes(b"cut")
    assert checkpoint_of(checkpoints.parent) == checkpoints / "step_00000010"
    assert "passing over the damaged checkpoint" in capsys.readouterr().err
    assert checkpoint_of(checkpoints / "step_00000020").name == "step_00000020", "what is named is taken"


@pytest.mark.parametrize("name", ["run", "run/checkpoints", "run/checkpoints/step_00000000"])
def test_import_makes_step_0_of_a_run(name: str) -> None:
    assert step_of(Path(name)) == Path("run/checkpoints/step_00000000")
    assert step_of(Path("runs/base/step_00000000")) == Path("runs/base/step_00000000")
