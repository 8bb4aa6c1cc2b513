"""Adapters in PEFT's eyes and on a full disk; what of a fine-tuning run becomes one."""

import errno
import json
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from megatron_mimo.cli import convert, push_to_hub
from megatron_mimo.config import ConfigError, LoRAConfig, UserError
from megatron_mimo.convert import destination, lora
from megatron_mimo.convert.export import export_checkpoint
from megatron_mimo.convert.hub import files_to_push
from megatron_mimo.convert.lora import export_adapter
from support.adapters import lora_checkpoint
from support.xiaomi import MODEL, weights, write_folder

TOKENS = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(0))
LAYERS = 7 * (MODEL.num_layers + 1) + 1


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 model with its own code, as this project writes it."""
    folder = tmp_path_factory.mktemp("base")
    source = write_folder(folder / "source", {name: t.float() for name, t in weights().items()})
    plain = lora_checkpoint(source, folder / "plain", size=0.0)
    export_checkpoint(plain, folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def checkpoint(base: Path) -> Path:
    return lora_checkpoint(base, base.parent / "step_00000007")


@pytest.fixture(scope="module")
def merged(base: Path, checkpoint: Path) -> torch.nn.Module:
    export_checkpoint(checkpoint, base.parent / "merged")
    return AutoModelForCausalLM.from_pretrained(base.parent / "merged", trust_remote_code=True)


def test_an_adapter_finds_its_base_and_gives_the_merged_logits(
    base: Path, checkpoint: Path, merged, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    arguments = ["--megatron-path", str(checkpoint), "--hf-path", str(tmp_path / "adapter"), "--base-model", str(base)]
    assert convert.main(["adapter", *arguments]) == 0
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter", trust_remote_code=True)
    plain = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=True)
    with torch.no_grad():
        before, after, expected = (model(TOKENS, output_mtp_logits=True) for model in (plain, adapted, merged))
    for name in ("logits", "mtp_logits"):
        assert (getattr(before, name) - getattr(expected, name)).abs().max() > 1e-2
        torch.testing.assert_close(getattr(after, name), getattr(expected, name), atol=1e-4, rtol=0)


def test_without_the_mtp_layers(base: Path, checkpoint: Path, merged, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    assert export_adapter(checkpoint, tmp_path / "whole") == LAYERS
    assert export_adapter(checkpoint, tmp_path / "main", str(base), without_mtp=True) == 7 * MODEL.num_layers
    whole, main = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "main"))
    assert main.keys() == {name for name in whole if "mtp" not in name}
    assert all(torch.equal(main[name], whole[name]) for name in main)
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "main", trust_remote_code=True)
    assert not [name for name, _ in adapted.named_parameters() if "mtp_layers" in name and "lora" in name]
    with torch.no_grad():
        torch.testing.assert_close(adapted(TOKENS).logits, merged(TOKENS).logits, atol=1e-4, rtol=0)


def test_what_the_command_says(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["--megatron-path", str(checkpoint)]
    assert convert.main(["adapter", *paths, "--hf-path", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert "--base-model NAME" in said and "--without-mtp" in said
    assert (
        convert.main(["adapter", *paths, "--hf-path", str(tmp_path / "b"), "--base-model", "me/it", "--without-mtp"])
        == 0
    )
    assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["write", "room"])
def test_a_full_disk_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if fault == "write":
        monkeypatch.setattr(lora, "write_safetensors", full)
    else:
        usage = namedtuple("usage", "total used free")(1, 1, 1)
        monkeypatch.setattr(destination.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="No space left on device" if fault == "write" else "no room for"):
        export_adapter(checkpoint, tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


def test_targets_dropout_and_layers_become_the_adapters(base: Path, tmp_path: Path) -> None:
    chosen = LoRAConfig(rank=2, alpha=4.0, dropout=0.25, targets=["linear_qkv", "linear_fc2"], mtp_layers=False)
    saved = lora_checkpoint(base, tmp_path / "step_00000001", lora=chosen)
    assert export_adapter(saved, tmp_path / "adapter") == 4 * MODEL.num_layers
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "k_proj", "q_proj", "v_proj"]
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (2, 4.0, 0.25)
    assert config["exclude_modules"] == r".*mtp_layers.*"
    mtp_alone = lora_checkpoint(base, tmp_path / "step_00000002", lora=LoRAConfig(targets=["eh_proj"]))
    with pytest.raises(UserError, match="updates of the MTP layers alone"):
        export_adapter(mtp_alone, tmp_path / "none", without_mtp=True)
    wrongs: list[dict[str, Any]] = [{"targets": []}, {"targets": ["eh_proj"], "mtp_layers": False}, {"dropout": 1.0}]
    for wrong in wrongs:
        with pytest.raises(ConfigError, match=r"lora\.(targets|dropout)"):
            LoRAConfig(**wrong)


def test_an_adapter_that_others_can_use_is_pushed(checkpoint: Path, base: Path, tmp_path: Path) -> None:
    export_adapter(checkpoint, tmp_path / "public", "owner/mimo")
    names = [path.name for path in files_to_push(tmp_path / "public")]
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert "base_model: owner/mimo\n" in (tmp_path / "public" / "README.md").read_text()
    assert push_to_hub.main([str(tmp_path / "public"), "owner/adapter", "--dry-run"]) == 0
    for name in ("", str(base)):
        export_adapter(checkpoint, tmp_path / f"private{len(name)}", name)
        with pytest.raises(UserError, match="--base-model OWNER/NAME"):
            files_to_push(tmp_path / f"private{len(name)}")
        assert str(base) not in (tmp_path / f"private{len(name)}" / "README.md").read_text()
    weights_file = tmp_path / "public" / "adapter_model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-4])
    with pytest.raises(UserError, match="missing or damaged"):
        files_to_push(tmp_path / "public")
