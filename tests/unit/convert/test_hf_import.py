"""From a Hugging Face folder to a checkpoint and back, and every way a folder can be wrong."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from megatron_mimo.config import ModelConfig, UserError
from megatron_mimo.convert import huggingface, mimo, ops
from megatron_mimo.convert.compare import compare_folders
from megatron_mimo.convert.export import export_checkpoint
from megatron_mimo.convert.hf_import import import_checkpoint
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.convert.progress import ProgressLine, progress_text
from megatron_mimo.convert.safetensors_folder import HuggingFaceFolder, dequantize
from megatron_mimo.training.checkpoint_files import complete_checkpoints

SHARD_BYTES = 40_000


@pytest.fixture
def model_folder(nano: ModelConfig, tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A folder of several bf16 shards as the project exports them."""
    generator = torch.Generator().manual_seed(0)
    shapes = mimo.hugging_face_shapes(nano)
    weights = {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in shapes.items()}
    tokenizer = huggingface.check_tokenizer(tokenizer_folder, nano)
    settings = {"rotary_base": 640_000, "seq_length": 128, "tokenizer": tokenizer, "max_shard_bytes": SHARD_BYTES}
    huggingface.write_hugging_face(tmp_path / "model", nano, weights.items(), **settings)
    return tmp_path / "model"


def stored_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def refused(model_folder: Path, tmp_path: Path):
    """`refused(text, ...)`: the import of the folder fails with these words and leaves nothing."""

    def check(*texts: str) -> None:
        with pytest.raises(UserError) as error:
            import_checkpoint(model_folder, tmp_path / "step_00000000")
        assert [text for text in texts if text not in str(error.value)] == [], str(error.value)
        assert not (tmp_path / "step_00000000").exists()
        assert not list(tmp_path.glob(".step*"))

    return check


def test_there_and_back(model_folder: Path, nano: ModelConfig, tmp_path: Path) -> None:
    """Through files alone; safetensors' own reader says that nothing changed, and config.json neither."""
    assert import_checkpoint(model_folder, tmp_path / "step_00000000", max_shard_bytes=SHARD_BYTES) == nano
    assert len(list((tmp_path / "step_00000000").glob("*.distcp"))) > 2
    export_checkpoint(tmp_path / "step_00000000", tmp_path / "back", max_shard_bytes=SHARD_BYTES)
    before, after = stored_tensors(model_folder), stored_tensors(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        assert (model_folder / name).read_bytes() == (tmp_path / "back" / name).read_bytes()


def test_the_card_of_an_untrained_import_claims_no_training(model_folder: Path, tmp_path: Path) -> None:
    import_checkpoint(model_folder, tmp_path / "step_00000000")
    export_checkpoint(tmp_path / "step_00000000", tmp_path / "back")
    card = (tmp_path / "back" / "README.md").read_text()
    assert f"those of the Hugging Face folder `{model_folder.name}`" in card
    assert "0 tokens" not in card
    assert "Training stages" not in card
    assert str(tmp_path) not in card


def test_the_checkpoint_is_complete_in_the_trainers_eyes(model_folder: Path, tmp_path: Path) -> None:
    """It reads every file's checksum; a flipped bit is found."""
    checkpoint = tmp_path / "checkpoints" / "step_00000000"
    import_checkpoint(model_folder, checkpoint)
    assert complete_checkpoints(checkpoint.parent, hash_files=True) == [checkpoint]
    listed = json.loads((checkpoint / "checksums.json").read_text())
    assert listed.keys() == {path.name for path in checkpoint.iterdir()} - {"checksums.json"}
    with (checkpoint / "__0_0.distcp").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\x00\xff")
    assert complete_checkpoints(checkpoint.parent, hash_files=True) == []


def test_run_json_tells_that_there_are_weights_only(model_folder: Path, nano: ModelConfig, tmp_path: Path) -> None:
    import_checkpoint(model_folder, tmp_path / "step_00000000")
    run = json.loads((tmp_path / "step_00000000" / "run.json").read_text())
    assert run["weights_only"] is True
    assert run["model"] == dataclasses.asdict(nano)
    assert (run["step"], run["consumed_tokens"], run["world_size"]) == (0, 0, 0)
    tokenizer = (model_folder / "tokenizer.json").read_bytes()
    assert run["tokenizer_sha256"] == hashlib.sha256(tokenizer).hexdigest()


def test_a_padded_vocabulary_comes_off_again(model_folder: Path, nano: ModelConfig, tmp_path: Path) -> None:
    padded = import_checkpoint(model_folder, tmp_path / "step_00000000", make_vocab_size_divisible_by=256)
    assert (nano.vocab_size, padded.vocab_size) == (384, 512)
    head = TorchDistCheckpoint(tmp_path / "step_00000000").read("output_layer.weight")
    assert head.shape[0] == 512
    assert not head[384:].any()
    export_checkpoint(tmp_path / "step_00000000", tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["vocab_size"] == 384
    for convert in (ops.to_hugging_face, ops.to_megatron):
        compare_folders(tmp_path / "step_00000000", model_folder, convert)
        compare_folders(tmp_path / "step_00000000", tmp_path / "back", convert)


def test_a_file_of_the_safetensors_library_without_an_index(model_folder: Path, tmp_path: Path) -> None:
    tensors = stored_tensors(model_folder)
    for path in model_folder.glob("model*"):
        path.unlink()
    save_file(tensors, model_folder / "model.safetensors", metadata={"format": "pt"})
    import_checkpoint(model_folder, tmp_path / "step_00000000")
    assert compare_folders(tmp_path / "step_00000000", model_folder, ops.to_hugging_face) == len(tensors)


def test_fp8_weights_become_bf16(model_folder: Path, tmp_path: Path) -> None:
    """A block of 16 x 8 values has one scale; worked out here one value at a time."""
    tensors, name = stored_tensors(model_folder), "model.layers.1.mlp.down_proj.weight"
    values, scales = tensors[name].to(torch.float8_e4m3fn), torch.rand(2, 6) + 0.5
    for path in model_folder.glob("model*"):
        path.unlink()
    stored = tensors | {name: values, name + "_scale_inv": scales}
    save_file(stored, model_folder / "model.safetensors")
    edit_config(model_folder, quantization_config={"quant_method": "fp8", "weight_block_size": [16, 8]})
    import_checkpoint(model_folder, tmp_path / "step_00000000")
    back = TorchDistCheckpoint(tmp_path / "step_00000000").read("decoder.layers.1.mlp.linear_fc2.weight")
    assert back.dtype == torch.bfloat16
    for row, column in ((0, 0), (15, 7), (16, 8), (31, 47), (3, 40)):
        expected = (values[row, column].float() * scales[row // 16, column // 8]).bfloat16()
        assert back[row, column] == expected
    with pytest.raises(UserError, match=r"scales \[2, 6\] instead of \[1, 6\]"):
        dequantize(values, scales, (32, 8))


def test_verify_names_the_tensor_that_changed(model_folder: Path, tmp_path: Path) -> None:
    import_checkpoint(model_folder, tmp_path / "step_00000000")
    path = next(path for path in model_folder.glob("*.safetensors") if "model.norm.weight" in load_file(path))
    tensors = load_file(path)
    tensors["model.norm.weight"][3] += 1
    save_file(tensors, path)
    with pytest.raises(UserError, match=r"1 of \d+ tensors differ:\n  model\.norm\.weight\n"):
        compare_folders(tmp_path / "step_00000000", model_folder, ops.to_hugging_face)


def test_wrong_tensors_are_all_named(model_folder: Path, refused) -> None:
    (path, *_) = sorted(model_folder.glob("*.safetensors"))
    tensors = load_file(path)
    moved = tensors.pop("model.embed_tokens.weight")
    save_file(tensors | {"model.surprise": moved, "model.norm.weight": torch.zeros(3)}, path)
    for other in model_folder.glob("*.safetensors"):
        if other != path and "model.norm.weight" in load_file(other):
            kept = {name: t for name, t in load_file(other).items() if name != "model.norm.weight"}
            save_file(kept, other)
    refused("missing   model.embed_tokens.weight", "extra     model.surprise", "misshaped model.norm.weight: [3]")


def test_missing_truncated_and_foreign_files(model_folder: Path, refused) -> None:
    first, second, *_ = sorted(model_folder.glob("*.safetensors"))
    content = second.read_bytes()
    for cut in (len(content) - 10, 100, 3):
        second.write_bytes(content[:cut])
        refused(second.name, "truncated")
    second.write_bytes(content + b"more")
    refused(second.name, "damaged")
    second.write_bytes(b"\x80\x04" * 500)
    refused(second.name, "not a safetensors file")
    second.unlink()
    first.unlink()
    refused("lacks weight files", first.name, second.name)


def test_pickled_weights_are_not_read(model_folder: Path, refused) -> None:
    for path in model_folder.glob("model*"):
        path.unlink()
    refused("there are no safetensors")
    torch.save({"a": torch.zeros(1)}, model_folder / "pytorch_model.bin")
    refused("pickled weights only (pytorch_model.bin)", "safetensors")


def test_values_that_are_not_finite(model_folder: Path, refused) -> None:
    for value in ("nan", "inf", "-inf"):
        path = sorted(model_folder.glob("*.safetensors"))[-1]
        original, tensors = path.read_bytes(), load_file(path)
        name = next(iter(tensors))
        tensors[name].view(-1)[0] = float(value)
        save_file(tensors, path)
        refused(f"{name} holds NaN or infinite values")
        path.write_bytes(original)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "the architecture is ['LlamaForCausalLM']"),
        ({"architectures": None}, "this converts MiMoForCausalLM"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings = True"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling"),
        ({"rope_theta": None}, "lacks a setting"),
        ({"num_hidden_layers": 4}, "missing   model.layers.3.input_layernorm.weight"),
        ({"num_nextn_predict_layers": 0}, "extra     model.mtp_layers.0.hidden_layernorm.weight"),
        ({"quantization_config": {"quant_method": "awq"}}, "'awq'"),
    ],
)
def test_another_architecture(model_folder: Path, refused, changes: dict, text: str) -> None:
    edit_config(model_folder, **changes)
    refused(text)


def test_a_tokenizer_that_does_not_fit(model_folder: Path, refused) -> None:
    path = model_folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": 384, "content": "<|too far|>"})
    path.write_text(json.dumps(tokenizer))
    refused("token ids up to 384, the model only 384 rows")
    path.unlink()
    refused("no tokenizer.json")


def test_layers_of_two_number_formats(model_folder: Path, refused) -> None:
    path = next(
        p for p in model_folder.glob("*.safetensors") if "model.layers.2.input_layernorm.weight" in load_file(p)
    )
    tensors = load_file(path)
    tensors["model.layers.2.input_layernorm.weight"] = tensors["model.layers.2.input_layernorm.weight"].float()
    save_file(tensors, path)
    refused("layers do not have one shape and number format")


def test_a_name_in_the_index_does_not_lead_out_of_the_folder(model_folder: Path, refused) -> None:
    index = model_folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["lm_head.weight"] = "../elsewhere.safetensors"
    index.write_text(json.dumps(content))
    refused("lacks weight files", "elsewhere.safetensors")


def test_resumed_after_an_interrupt(model_folder: Path, tmp_path: Path) -> None:
    """Stopped between two files, the next call reads no tensor of the first again."""

    def stop(done: int, total: int, name: str) -> None:
        if done > 1.5 * SHARD_BYTES:
            raise KeyboardInterrupt

    destination, seen = tmp_path / "step_00000000", []
    with pytest.raises(KeyboardInterrupt):
        import_checkpoint(model_folder, destination, max_shard_bytes=SHARD_BYTES, progress=stop)
    assert not destination.exists()
    record = json.loads((tmp_path / ".step_00000000.partial" / "conversion.json").read_text())
    kept = sum(facts["bytes"] for facts in record["files"].values())
    assert kept > 0.5 * SHARD_BYTES
    import_checkpoint(
        model_folder, destination, max_shard_bytes=SHARD_BYTES, progress=lambda done, *rest: seen.append(done)
    )
    assert seen[0] > 0.5 * SHARD_BYTES
    compare_folders(destination, model_folder, ops.to_hugging_face)


def test_the_command_line(convert_checkpoint, model_folder: Path, nano: ModelConfig, tmp_path: Path, capsys) -> None:
    def run(command: str, hf_path: Path, *options: str) -> tuple[int, str, str]:
        paths = ["--hf-path", str(hf_path), "--megatron-path", str(tmp_path / "step_00000000")]
        return convert_checkpoint([command, *paths, *options]), *capsys.readouterr()

    verdict = "tensors are identical to the last bit"
    code, output, errors = run("import", model_folder, "--verify")
    assert (code, errors) == (0, "")
    assert f"{len(mimo.hugging_face_shapes(nano))} {verdict}" in output
    code, _, errors = run("import", model_folder)
    assert (code, "exists and is not overwritten" in errors) == (2, True)
    for attempt in ("exported and compared", "only compared"):
        code, output, errors = run("roundtrip", tmp_path / "back")
        assert (code, errors, verdict in output) == (0, "", True), attempt
    os.remove(next((tmp_path / "back").glob("*.safetensors")))
    code, _, errors = run("roundtrip", tmp_path / "back")
    assert (code, "lacks weight files" in errors) == (2, True)
    shutil.rmtree(tmp_path / "step_00000000")
    code, _, errors = run("roundtrip", tmp_path / "nowhere")
    assert (code, "one of them is the source" in errors) == (2, True)


def test_progress_tells_what_is_left(capsys, monkeypatch) -> None:
    assert progress_text("import", 4_000_000_000, 16_000_000_000, 6e8) == "import 4.00/16.00 GB 25% 600 MB/s, 20 s left"
    clock = iter([0.0, 0.0, 5.0, 20.0])
    monkeypatch.setattr("megatron_mimo.convert.progress.time.monotonic", lambda: next(clock))
    line = ProgressLine("import")
    for done in (1_000, 2_000, 11_000):
        line(done, 21_000, f"tensor {done}")
    # 10 000 bytes in 20 s after the first report; one line, ten seconds apart at least.
    assert capsys.readouterr().err == "import 0.00/0.00 GB 52% 0 MB/s, 20 s left  tensor 11000\n"


def test_the_folder_reads_what_the_library_wrote(tmp_path: Path, model_folder: Path) -> None:
    folder = HuggingFaceFolder(model_folder)
    for name, tensor in stored_tensors(model_folder).items():
        assert torch.equal(folder.read(name), tensor)
        assert folder.read_meta(name).shape == tensor.shape
