"""Folders as Xiaomi and other people's tools write them (support/xiaomi.py): what survives, and what is said of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from megatron_mimo.cli import convert
from megatron_mimo.config import UserError
from megatron_mimo.convert import ops
from megatron_mimo.convert.compare import compare_folders
from megatron_mimo.convert.export import export_checkpoint
from megatron_mimo.convert.hf_import import import_checkpoint
from megatron_mimo.training.checkpoint_record import read_record, write_record
from megatron_mimo.training.state import Progress
from support.xiaomi import GENERATION, MODEL, weights, write_folder

MAIN = {name: tensor for name, tensor in weights().items() if "mtp" not in name}


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def imported(folder: Path, **options: Any) -> tuple[Path, list[str]]:
    """The checkpoint, and what was said."""
    said: list[str] = []
    checkpoint = folder.parent / f"{folder.name}_megatron" / "step_00000000"
    import_checkpoint(folder, checkpoint, say=said.append, **options)
    return checkpoint, said


def test_everything_of_a_folder_survives(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    checkpoint, said = imported(folder)
    assert said == []
    assert [note for note in export_checkpoint(checkpoint, tmp_path / "back") if "kv_channels" not in note] == []
    assert same(stored(tmp_path / "back"), weights())
    assert json.loads((tmp_path / "back" / "generation_config.json").read_text()) == GENERATION
    before, after = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "back"))
    for name in ("max_position_embeddings", "rope_theta", "rms_norm_eps", "num_nextn_predict_layers", "torch_dtype"):
        assert after[name] == before[name]


def test_tables_of_rope_are_left_out_and_said(tmp_path: Path) -> None:
    table = 640_000 ** (-torch.arange(4) / 4)
    caches = {
        f"model.layers.{n}.self_attn.rotary_emb.inv_freq": table.to(dtype)
        for n, dtype in ((0, torch.float32), (1, torch.bfloat16))
    }
    folder = write_folder(tmp_path / "model", weights() | caches)
    checkpoint, said = imported(folder)
    assert len(said) == 1
    assert "2 tables of RoPE (model.layers.0.self_attn.rotary_emb.inv_freq ...) are left out" in said[0]
    compare_folders(checkpoint, folder, ops.to_hugging_face)
    other = write_folder(
        tmp_path / "other", weights() | {"model.rotary_emb.inv_freq": 10_000 ** (-torch.arange(4) / 4)}
    )
    with pytest.raises(UserError, match="is not that of config.json's rope_theta 640000"):
        imported(other)


@pytest.mark.parametrize("which", ["norm", "lm_head", "bias"])
def test_tensors_in_another_number_format_keep_it(tmp_path: Path, which: str) -> None:
    """LLaMA-Factory's `upcast_layernorm`, heads in fp32: whatever is imported can be exported again."""
    mixed = {name: tensor.float() if which in name else tensor for name, tensor in weights().items()}
    checkpoint, said = imported(write_folder(tmp_path / "model", mixed))
    count = sum(which in name for name in mixed)
    assert len(said) == 1
    assert said[0].startswith(f"{count} tensors (")
    assert "are float32, the others bfloat16" in said[0]
    assert export_checkpoint(checkpoint, tmp_path / "back")[0].startswith(f"{count} tensors (")
    assert same(stored(tmp_path / "back"), mixed)
    assert json.loads((tmp_path / "back" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    for direction in (ops.to_hugging_face, ops.to_megatron):
        compare_folders(checkpoint, tmp_path / "back", direction)


def test_mtp_layers_that_another_tool_lost(tmp_path: Path) -> None:
    whole, tuned = write_folder(tmp_path / "whole"), {name: tensor * 1.5 for name, tensor in MAIN.items()}
    lost = write_folder(tmp_path / "lost", tuned)
    with pytest.raises(UserError, match=r"weights of 0 MTP layers, .*says 1: .*--mtp-from MODEL, or .*--without-mtp"):
        imported(lost)
    checkpoint, _ = imported(lost, mtp_from=whole)
    compare_folders(checkpoint, lost, ops.to_hugging_face, mtp_from=whole)
    export_checkpoint(checkpoint, tmp_path / "restored")
    assert same(stored(tmp_path / "restored"), weights() | tuned)
    none = import_checkpoint(lost, tmp_path / "none" / "step_00000000", without_mtp=True)
    assert none.mtp_num_layers == 0
    export_checkpoint(tmp_path / "none" / "step_00000000", tmp_path / "main")
    assert same(stored(tmp_path / "main"), tuned)
    card = (tmp_path / "main" / "README.md").read_text()
    assert "speculative" not in card and "mtp_logits" not in card
    with pytest.raises(UserError, match="--mtp-from: .*lost.* has no MTP layers"):
        imported(
            write_folder(tmp_path / "again", tuned),
            mtp_from=write_folder(tmp_path / "lost2", MAIN, num_nextn_predict_layers=0),
        )


def test_a_config_that_forgot_the_mtp_layers(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["num_nextn_predict_layers"]
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint, said = imported(folder)
    assert "does not name the 1 MTP layer(s)" in said[0]
    assert read_record(checkpoint).model.mtp_num_layers == 1
    (tmp_path / "none").mkdir()
    bare = write_folder(tmp_path / "none" / "model", MAIN)
    (bare / "config.json").write_text(json.dumps(config))
    assert "there are no MTP layers" in imported(bare)[1][0]


@pytest.mark.parametrize("is_tied", [False, True])
def test_bases_of_qwen2s_architecture(tmp_path: Path, is_tied: bool) -> None:
    """Qwen2 writes neither `attention_bias` nor `head_dim`, small ones share embedding and head."""
    tensors = {name: t for name, t in MAIN.items() if not (is_tied and name == "lm_head.weight")}
    folder = write_folder(
        tmp_path / "model", tensors, architectures=["Qwen2ForCausalLM"], model_type="qwen2", tie_word_embeddings=is_tied
    )
    config = json.loads((folder / "config.json").read_text())
    for name in ("attention_bias", "head_dim", "auto_map", "num_nextn_predict_layers"):
        del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint, said = imported(folder)
    assert read_record(checkpoint).model == replace(MODEL, mtp_num_layers=0)
    assert ["one tensor there" in note for note in said] == [True] * is_tied
    export_checkpoint(checkpoint, tmp_path / "mimo")
    expected = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight" if is_tied else "lm_head.weight"]}
    assert same(stored(tmp_path / "mimo"), expected)
    with_mtp = import_checkpoint(folder, tmp_path / "mtp" / "step_00000000", mtp_from=write_folder(tmp_path / "whole"))
    assert with_mtp == MODEL


def test_a_plain_qwen2_folder_has_the_main_models_logits(tmp_path: Path) -> None:
    """Loaded as Transformers' own Qwen2, without remote code; and it comes back, with the MTP layers of its source."""
    folder = write_folder(tmp_path / "model")
    checkpoint, _ = imported(folder)
    arguments = [
        "--megatron-path",
        str(checkpoint),
        "--hf-path",
        str(tmp_path / "plain"),
        "--form",
        "qwen2",
        "--verify",
    ]
    assert convert.main(["export", *arguments]) == 0
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert (config["architectures"], config["model_type"]) == (["Qwen2ForCausalLM"], "qwen2")
    assert not list((tmp_path / "plain").glob("*.py"))
    assert "auto_map" not in config
    assert "its 1 MTP layer(s) are left out" in (tmp_path / "plain" / "README.md").read_text()
    export_checkpoint(checkpoint, tmp_path / "mimo")
    tokens = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(0))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    mimo = AutoModelForCausalLM.from_pretrained(tmp_path / "mimo", dtype=torch.float32, trust_remote_code=True)
    assert type(plain).__name__ == "Qwen2ForCausalLM"
    torch.testing.assert_close(plain(tokens).logits, mimo(tokens).logits, atol=1e-5, rtol=0)
    assert AutoTokenizer.from_pretrained(tmp_path / "plain").eos_token == "<|im_end|>"
    import_checkpoint(tmp_path / "plain", tmp_path / "again" / "step_00000000", mtp_from=folder)
    compare_folders(tmp_path / "again" / "step_00000000", folder, ops.to_hugging_face)


def test_what_training_keeps_of_a_folder(tmp_path: Path) -> None:
    """Fine-tuned at 96 tokens: context, RoPE base and generation settings are the base's; chat data ends turns."""
    checkpoint, _ = imported(write_folder(tmp_path / "model"))
    origin = read_record(checkpoint)
    trained = replace(
        origin, imported_from=None, stages=[replace(origin.last_stage, seq_length=96)], progress=Progress(3, 300, 0, 3),
        start_seq_length=origin.context_length, start_rotary_base=640_000, chat_trained=True,
    )  # fmt: skip
    write_record(checkpoint, trained)
    notes = export_checkpoint(checkpoint, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["max_position_embeddings"], config["rope_theta"]) == (32768, 640_000)
    assert any("saw 96 tokens at a time; max_position_embeddings stays at 32,768" in note for note in notes)
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == GENERATION | {"eos_token_id": [258, 256]}
    write_record(checkpoint, replace(trained, start_rotary_base=10_000))
    export_checkpoint(checkpoint, tmp_path / "rebased")
    assert json.loads((tmp_path / "rebased" / "config.json").read_text())["max_position_embeddings"] == 96


def test_the_command_says_what_was_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = write_folder(tmp_path / "lost", MAIN)
    paths = ["--hf-path", str(lost), "--megatron-path", str(tmp_path / "step_00000000")]
    assert convert.main(["import", *paths]) == 2
    assert "--mtp-from MODEL" in capsys.readouterr().err
    whole = write_folder(tmp_path / "whole")
    assert convert.main(["import", *paths, "--mtp-from", str(whole), "--verify"]) == 0
    assert "are identical to the last bit" in capsys.readouterr().out


def test_other_architectures_and_attention_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", architectures=["LlamaForCausalLM"])
    with pytest.raises(UserError, match="this converts MiMoForCausalLM and Qwen2ForCausalLM"):
        imported(folder)
    for name, value in (("layer_types", ["full_attention", "sliding_attention"]), ("dual_chunk_attention_config", {})):
        folder = write_folder(tmp_path / name, MAIN, architectures=["Qwen2ForCausalLM"], **{name: value})
        with pytest.raises(UserError, match=name):
            imported(folder)
