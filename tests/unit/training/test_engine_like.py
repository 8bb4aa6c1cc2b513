"""Checkpoints and batches as Transformer Engine takes them, with stand-ins that behave as its parts do."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_mimo.config import PretrainConfig, UserError
from support.bare_run import BATCH, Run, make_config, random_batch
from support.engine_like import DelayedScalingNorm, EngineNorm, use_delayed_scaling, use_fused_adam
from support.tiny import SEQ_LENGTH

pytest.importorskip("megatron.core")


def test_a_checkpoint_of_torch_layers_loads_into_norms_with_a_state(group: None, tmp_path: Path) -> None:
    """G4: resumed, and as the weights that another run starts from."""
    from megatron_mimo.training.checkpoint import load_weights

    config = make_config(tmp_path)
    saved = Run(config)
    saved.train(range(2))
    path = saved.save()
    resumed = Run(config, EngineNorm, seed=1)
    resumed.checkpoints.load(path)
    started = Run(config, EngineNorm, seed=2)
    load_weights(path, started.chunks, lambda name: True)
    for name, expected in saved.weights().items():
        assert torch.equal(resumed.weights()[name], expected), name
        assert torch.equal(started.weights()[name], expected), name
    assert len(resumed.norms) == 4
    path = resumed.save()
    assert Run(config, seed=3).checkpoints.load(path), "and back into torch layers"


def test_a_save_in_the_background_leaves_the_hashing_to_its_writer(
    group: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from megatron_mimo.training import checkpoint_files

    run = Run(make_config(tmp_path, checkpoint={"asynchronous": True}))
    read: list[str] = []
    hash_file = checkpoint_files.file_sha256
    monkeypatch.setattr(checkpoint_files, "file_sha256", lambda path: read.append(path.name) or hash_file(path))
    path = run.save()
    run.checkpoints.finish_pending()
    assert "run.json" in read and not [name for name in read if name.endswith(".distcp")], "in this process"
    assert checkpoint_files.damage(path, hash_files=True) is None
    assert {file.name for file in path.iterdir() if "hashes" in file.name} == set()


def test_a_checkpoint_without_a_weight_is_refused(group: None, tmp_path: Path) -> None:
    from megatron_mimo.training.checkpoint import load_weights

    path = Run(make_config(tmp_path)).save()
    other = make_config(tmp_path)
    other.model.mtp_num_layers = 2
    with pytest.raises(UserError, match=r"lacks .* weights.* mtp\.layers\.1"):
        load_weights(path, Run(other).chunks, lambda name: True)


@pytest.mark.parametrize("first", ["torch", "fused"])
def test_optimizers_take_over_from_each_other(
    first: str, group: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: AdamW of torch and of Transformer Engine, four steps after the change of class."""
    config = make_config(tmp_path)

    def make(kind: str, seed: int) -> Run:
        with monkeypatch.context() as patch:
            if kind == "fused":
                use_fused_adam(patch)
            return Run(config, seed=seed)

    def act(kind: str, work: Any) -> Any:
        with monkeypatch.context() as patch:
            if kind == "fused":
                use_fused_adam(patch)
            return work()

    second = "torch" if first == "fused" else "fused"
    stays, moves = make(first, 0), make(second, 1)
    act(first, lambda: stays.train(range(3)))
    path = act(first, stays.save)
    act(second, lambda: moves.checkpoints.load(path))
    expected = act(first, lambda: stays.train(range(3, 7)))
    assert act(second, lambda: moves.train(range(3, 7))) == pytest.approx(expected, rel=1e-5)
    settings = {name for group in moves.optimizer.param_groups for name in group}
    assert ("bias_correction" in settings) == (second == "fused")
    assert ("fused" in settings) == (second == "torch")


def test_the_configured_optimizer_settings_hold_after_a_resume(group: None, tmp_path: Path) -> None:
    path = Run(make_config(tmp_path)).save()
    changed = Run(make_config(tmp_path, optimizer={"adam_beta2": 0.9, "weight_decay": 0.3, "adam_eps": 1e-6}))
    changed.checkpoints.load(path)
    for group_ in changed.optimizer.param_groups:
        assert (group_["betas"][1], group_["eps"]) == (0.9, 1e-6)
        assert group_["weight_decay"] in (0.0, 0.3)


def test_fp8_scales_are_read_without_trusting_the_file(
    group: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G11: Transformer Engine 2.20 refuses its own pickles; those that hold tensors and recipes alone pass."""
    use_delayed_scaling(monkeypatch)
    monkeypatch.delenv("NVTE_ALLOW_UNSAFE_PICKLE_EXTRA_STATE", raising=False)
    config = make_config(tmp_path)
    saved = Run(config, DelayedScalingNorm)
    for number, norm in enumerate(saved.norms):
        norm.scale = torch.tensor([1.0, 2.0, number])
    resumed = Run(config, DelayedScalingNorm)
    resumed.checkpoints.load(saved.save())
    assert [norm.scale.tolist() for norm in resumed.norms] == [[1.0, 2.0, n] for n in range(len(saved.norms))]
    assert "NVTE_ALLOW_UNSAFE_PICKLE_EXTRA_STATE" not in __import__("os").environ


class Harmful:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_acts_is_never_run(tmp_path: Path) -> None:
    from megatron_mimo.training.module_states import examined_states

    hidden = torch.frombuffer(bytearray(pickle.dumps({"scale_fwd": Harmful(tmp_path / "made")})), dtype=torch.uint8)
    with pytest.raises(UserError, match="could run any program"), examined_states({"norm._extra_state": hidden}, "x"):
        raise AssertionError("not reached")
    assert not (tmp_path / "made").exists()


def test_random_states_of_another_device_are_left_alone(group: None) -> None:
    from megatron_mimo.training.checkpoint import _rng_tracker, _set_rng_state

    before = _rng_tracker().get_states()
    of_a_gpu = {name: torch.zeros(16, dtype=torch.uint8) for name in before}
    _set_rng_state({"torch": torch.get_rng_state(), "tracker": of_a_gpu})
    after = _rng_tracker().get_states()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_packed_rows_of_a_micro_batch_learn_as_masked_ones(group: None, tmp_path: Path) -> None:
    """G6, G7, D13: Transformer Engine's documents come as bounds, for any number of rows."""
    from megatron_mimo.training.batch import make_batch, model_shape

    run = Run(make_config(tmp_path))
    run.step.mtp_loss_scaling_factor = 0.3
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 12, (BATCH, SEQ_LENGTH + 1), generator=generator)
    rows = {"tokens": tokens, "source": torch.tensor([0, 0, 0, 0])}
    found = {}
    for attention in ("mask", "packed"):
        batch = make_batch(dict(rows), 1, eod_token_id=3, attention=attention)
        shape = model_shape(attention, BATCH, SEQ_LENGTH)
        run.optimizer.zero_grad()
        report = run.step.backward(iter([batch]), 1, shape)
        gradient = run.step.chunks[0].buffers[0].grad_data.clone()
        found[attention] = (tuple(batch.tokens.shape), shape, report, gradient)
    assert found["packed"][0] == found["packed"][1] == (1, BATCH * SEQ_LENGTH)
    assert found["packed"][2].by_depth == pytest.approx(found["mask"][2].by_depth, rel=1e-6)
    torch.testing.assert_close(found["packed"][3], found["mask"][3], atol=1e-5, rtol=1e-4)


def test_the_quick_start_suits_transformer_engine() -> None:
    from megatron_mimo.config import load
    from megatron_mimo.training.batch import document_attention

    config = load(PretrainConfig, ["examples/nano/pretrain.yaml"])
    for stage in config.stages:
        assert document_attention(config, stage, "transformer_engine") == "packed"


def test_every_module_with_trained_weights_is_called(group: None, tmp_path: Path) -> None:
    """New parameters are gathered in modules' hooks: a weight that is used past its module would be an old one."""
    from megatron_mimo.config import LoRAConfig
    from megatron_mimo.model.lora import add_lora

    for settings, lora in (({"cross_entropy": "chunked"}, False), ({"cross_entropy": "whole"}, True)):
        run = Run(make_config(tmp_path, precision={"dtype": "fp32"} | settings))
        (chunk,) = run.chunks
        if lora:
            add_lora([chunk], LoRAConfig(rank=2))
            for name, parameter in chunk.named_parameters():
                if "_lora" in name:
                    torch.nn.init.normal_(parameter)
        called: set[int] = set()
        for module in chunk.modules():
            module.register_forward_pre_hook(lambda module, _, called=called: called.add(id(module)))
        batch = random_batch(0)
        chunk(batch.tokens, batch.position_ids, None, batch.labels)
        for name, module in chunk.named_modules():
            trained = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
            assert not trained or id(module) in called, name
