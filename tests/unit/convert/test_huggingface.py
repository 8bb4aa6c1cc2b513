"""An exported folder in Transformers: the reference model's logits, greedy generation, the KV cache, every error."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from megatron_mimo.config import ModelConfig, UserError
from megatron_mimo.convert import huggingface, mimo
from megatron_mimo.model.reference import ReferenceMiMo

ROTARY_BASE = 640_000


def reference_model(model: ModelConfig, weights: dict[str, torch.Tensor]) -> ReferenceMiMo:
    reference = ReferenceMiMo(model, ROTARY_BASE)
    reference.load_state_dict(weights, strict=True)
    return reference.eval().requires_grad_(False)


def random_weights(model: ModelConfig) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(shape, generator=generator) for name, shape in mimo.hugging_face_shapes(model).items()}
    return {name: 1 + 0.5 * t if "norm" in name else t * (0.3 if "bias" in name else 0.1) for name, t in noise.items()}


@pytest.fixture(scope="module")
def export(nano, tokenizer_folder, tmp_path_factory):
    """`export(**changes to the model)` -> (folder, reference model with the same random weights)."""

    def write(**changes) -> tuple[Path, ReferenceMiMo]:
        model = dataclasses.replace(nano, **changes)
        weights, folder = random_weights(model), tmp_path_factory.mktemp("export") / "model"
        tokenizer = huggingface.check_tokenizer(tokenizer_folder, model)
        settings = {"rotary_base": ROTARY_BASE, "seq_length": 128, "tokenizer": tokenizer, "max_shard_bytes": 60_000}
        huggingface.write_hugging_face(folder, model, weights.items(), **settings)
        return folder, reference_model(model, weights)

    return write


@pytest.fixture(scope="module")
def exported(export) -> tuple[Path, ReferenceMiMo]:
    return export(mtp_num_layers=2)


@pytest.fixture(scope="module")
def tokens(nano) -> torch.Tensor:
    return torch.randint(0, nano.vocab_size, (2, 40), generator=torch.Generator().manual_seed(1))


def load(folder: Path, **options):
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options).eval().requires_grad_(False)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_equal_the_reference(exported, tokens, attention: str) -> None:
    folder, reference = exported
    outputs = load(folder, attn_implementation=attention)(tokens, output_mtp_logits=True)
    expected = reference(tokens)
    assert outputs.logits.dtype == torch.float32
    assert expected.std() > 0.1
    torch.testing.assert_close(outputs.logits, expected[0], atol=1e-5, rtol=0)
    for depth in (1, 2):
        kept = tokens.shape[1] - depth
        torch.testing.assert_close(
            outputs.mtp_logits[depth - 1, :, :kept], expected[depth, :, :kept], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize(
    "changes", [{"mtp_hidden_state": "after_final_norm"}, {"mtp_zero_first_embedding": False}, {"mtp_num_layers": 0}]
)
def test_the_recorded_mtp_options_are_obeyed(export, tokens, changes: dict) -> None:
    folder, reference = export(**changes)
    outputs, expected = load(folder)(tokens, output_mtp_logits=True), reference(tokens)
    torch.testing.assert_close(outputs.logits, expected[0], atol=1e-5, rtol=0)
    if changes.get("mtp_num_layers") == 0:
        assert outputs.mtp_logits is None
    else:
        torch.testing.assert_close(outputs.mtp_logits[0, :, :-1], expected[1, :, :-1], atol=1e-5, rtol=0)


def test_padding_on_the_left_changes_nothing(exported, tokens) -> None:
    folder, _ = exported
    model = load(folder)
    padding = torch.zeros(2, 5, dtype=torch.long)
    padded = model(
        torch.cat([padding, tokens], dim=1),
        attention_mask=torch.cat([padding, torch.ones_like(tokens)], dim=1),
        position_ids=torch.cat([padding, torch.arange(40).expand(2, 40)], dim=1),
        output_mtp_logits=True,
    )
    alone = model(tokens, output_mtp_logits=True)
    torch.testing.assert_close(padded.mtp_logits[:, :, 5:-2], alone.mtp_logits[:, :, :-2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_generation_equals_an_argmax_loop(exported, tokens, use_cache: bool) -> None:
    folder, reference = exported
    model = load(folder)
    model.generation_config.eos_token_id = None
    generated = model.generate(tokens[:, :8], max_new_tokens=12, do_sample=False, use_cache=use_cache)
    expected = tokens[:, :8]
    for _ in range(12):
        expected = torch.cat([expected, reference(expected)[0, :, -1:].argmax(-1)], dim=1)
    assert torch.equal(generated, expected)


def test_mtp_logits_refuse_a_cache(exported, tokens) -> None:
    model = load(exported[0])
    cache = model(tokens[:, :4], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="whole sequences"):
        model(tokens[:, 4:5], past_key_values=cache, output_mtp_logits=True)


def test_the_folder_says_everything_a_loader_asks_for(exported, nano, tokenizer_folder) -> None:
    folder, reference = exported
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["MiMoForCausalLM"]
    assert config["model_type"] == "mimo"
    assert (config["rope_theta"], config["torch_dtype"], config["num_nextn_predict_layers"]) == (
        640_000.0,
        "float32",
        2,
    )
    assert config["eos_token_id"] == AutoTokenizer.from_pretrained(folder, trust_remote_code=True).eos_token_id
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 1
    assert {path.name for path in shards} == set(index.values())
    stored = {name: tensor for path in shards for name, tensor in load_file(path).items()}
    assert stored.keys() == index.keys() == reference.state_dict().keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in reference.state_dict().items())
    names = {path.name for path in folder.iterdir()}
    assert {
        "modeling_mimo.py",
        "configuration_mimo.py",
        "generation_config.json",
        "tokenizer.json",
        "README.md",
    } <= names


def test_a_failed_write_leaves_nothing(nano, tokenizer_folder, tmp_path: Path) -> None:
    weights = random_weights(nano)
    weights["lm_head.weight"][3, 3] = float("nan")
    tokenizer = huggingface.check_tokenizer(tokenizer_folder, nano)
    settings = {"rotary_base": ROTARY_BASE, "seq_length": 128, "tokenizer": tokenizer}
    with pytest.raises(UserError, match=r"lm_head.weight holds NaN"):
        huggingface.write_hugging_face(tmp_path / "model", nano, weights.items(), **settings)
    assert list(tmp_path.iterdir()) == []


def test_two_number_formats_are_kept(nano, tokenizer_folder, tmp_path: Path) -> None:
    weights = random_weights(nano)
    weights["lm_head.weight"] = weights["lm_head.weight"].bfloat16()
    tokenizer = huggingface.check_tokenizer(tokenizer_folder, nano)
    settings = {"rotary_base": ROTARY_BASE, "seq_length": 128, "tokenizer": tokenizer}
    huggingface.write_hugging_face(tmp_path / "model", nano, weights.items(), **settings)
    stored = {name: t for path in (tmp_path / "model").glob("*.safetensors") for name, t in load_file(path).items()}
    assert {name for name, tensor in stored.items() if tensor.dtype != torch.float32} == {"lm_head.weight"}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["torch_dtype"] == "float32"


def test_tokenizers_that_do_not_fit(nano, tokenizer_folder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        huggingface.check_tokenizer(tmp_path, nano)
    with pytest.raises(UserError, match="not the tokenizer the model was trained with"):
        huggingface.check_tokenizer(tokenizer_folder, nano, sha256="0" * 64)
    with pytest.raises(UserError, match="only 256 rows"):
        huggingface.check_tokenizer(tokenizer_folder, dataclasses.replace(nano, vocab_size=256))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="readable tokenizer"):
        huggingface.check_tokenizer(tmp_path, nano)
    digest = hashlib.sha256((tokenizer_folder / "tokenizer.json").read_bytes()).hexdigest()
    assert huggingface.check_tokenizer(tokenizer_folder, nano, digest).stop_token_ids == [0]


def test_a_chat_template_adds_the_end_of_its_turns(nano, tokenizer_folder, tmp_path: Path) -> None:
    folder = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}<|im_end|>")
    assert huggingface.check_tokenizer(folder, nano).stop_token_ids == [2, 0]
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    assert huggingface.check_tokenizer(folder, nano).stop_token_ids == [2, 0]
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages[0][\'content\'] }}"}')
    assert huggingface.check_tokenizer(folder, nano).stop_token_ids == [0]
