"""What a rank saves of the optimizer: boxes that hold its elements and no other, in a form that megatron-core reads."""

import itertools
import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("megatron.core")

from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

from megatron_mimo.training.optimizer import distributed_parts
from megatron_mimo.training.optimizer_shards import ResumableDistributedOptimizer, boxes
from support.bare_run import Run, make_config


@pytest.mark.parametrize("shape", [(7,), (1,), (5, 4), (1, 6), (6, 1), (3, 2, 4)])
def test_boxes_hold_every_element_of_any_range_once_and_in_order(shape: tuple[int, ...]) -> None:
    numbers = torch.arange(math.prod(shape)).view(shape)
    for start, end in itertools.combinations(range(numbers.numel() + 1), 2):
        found = list(boxes(shape, start, end))
        cut = [numbers[tuple(slice(o, o + n) for o, n in zip(b.offset, b.lengths, strict=True))] for b in found]
        assert torch.cat([part.flatten() for part in cut]).tolist() == list(range(start, end))
        assert [int(part.flatten()[0]) for part in cut] == [box.start for box in found]
        assert len(found) <= 2 * len(shape) - 1
    assert not list(boxes(shape, 2, 2))


class Theirs(ResumableDistributedOptimizer):
    """megatron-core's own way to save and load."""

    sharded_param_state_fully_reshardable = DistributedOptimizer.sharded_param_state_fully_reshardable
    load_parameter_state_from_fully_reshardable = DistributedOptimizer.load_parameter_state_from_fully_reshardable


def states(run: Run) -> dict[str, torch.Tensor]:
    """Weights in fp32 and moments, whole, as megatron-core gathers them."""
    (part,) = distributed_parts(run.optimizer)
    return part.get_parameter_state_dp_zero()[0][torch.float32, torch.float32]


@pytest.mark.parametrize("saves", ["ours", "theirs"])
def test_megatron_core_and_we_read_each_other(saves: str, group: None, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    first, second = Run(config), Run(config, seed=1)
    for run, is_theirs in ((first, saves == "theirs"), (second, saves == "ours")):
        if is_theirs:
            distributed_parts(run.optimizer)[0].__class__ = Theirs
    first.train(range(2))
    second.checkpoints.load(first.save())
    expected, found = states(first), states(second)
    for name in ("param", "exp_avg", "exp_avg_sq"):
        assert torch.equal(found[name], expected[name]) and expected[name].abs().sum() > 0, name
    assert first.train(range(2, 4)) == second.train(range(2, 4))
