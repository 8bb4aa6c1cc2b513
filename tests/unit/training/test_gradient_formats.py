"""Gradients in bf16, and recomputation of some layers, in a training step on torch layers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from support.bare_run import Run, make_config

pytest.importorskip("megatron.core")

STEPS = range(3)


@pytest.mark.parametrize("layers", [1, 2, None])
def test_some_layers_recomputed_train_as_none(group: None, tmp_path: Path, layers: int | None) -> None:
    """The same arithmetic once more: gradient norms equal to the bit, the MTP layer's included."""
    parallel: dict[str, Any] = {"recompute": "full", "recompute_num_layers": layers}
    expected = Run(make_config(tmp_path)).train(STEPS)
    assert Run(make_config(tmp_path, parallel=parallel)).train(STEPS) == expected


def test_block_recomputation_leaves_the_mtp_layer_alone(group: None, tmp_path: Path) -> None:
    """How often each layer's MLP runs forward in a step."""
    run = Run(make_config(tmp_path, parallel={"recompute": "full", "recompute_num_layers": 1}))
    counts: dict[str, int] = {}
    model: Any = run.chunks[0]
    layers = {f"decoder {i}": layer for i, layer in enumerate(model.decoder.layers)}
    for name, layer in (layers | {"mtp": model.mtp.layers[0].transformer_layer}).items():
        layer.mlp.register_forward_hook(lambda *_, name=name: counts.update({name: counts.get(name, 0) + 1}))
    run.train(range(1))
    assert counts == {"decoder 0": 2, "decoder 1": 1, "mtp": 1}


def test_gradients_are_kept_and_reduced_in_bf16(group: None, tmp_path: Path) -> None:
    """Half the buffer; the norm is that of fp32 gradients to bf16's rounding; the optimizer's copies stay fp32."""
    formats = {"dtype": "bf16", "backend": "torch"}
    full = Run(make_config(tmp_path, precision=formats))
    half = Run(make_config(tmp_path, precision=formats | {"gradient_dtype": "bf16"}))
    (buffer,), (small,) = full.step.chunks[0].buffers, half.step.chunks[0].buffers
    assert (buffer.grad_data.dtype, small.grad_data.dtype) == (torch.float32, torch.bfloat16)
    assert half.train(STEPS) == pytest.approx(full.train(STEPS), rel=0.02)
    main: Any = half.optimizer
    parts = getattr(main, "chained_optimizers", [main])
    kept = [parameter for part in parts for group in part.optimizer.param_groups for parameter in group["params"]]
    assert {parameter.dtype for parameter in kept} == {torch.float32}
