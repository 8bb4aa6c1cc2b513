"""A writer of a checkpoint that the system kills ends the save with a message, now and in the background."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from megatron.core.dist_checkpointing.strategies.filesystem_async import FileSystemWriterAsync

from megatron_mimo.config import CheckpointConfig, ModelConfig, PrecisionConfig, UserError
from megatron_mimo.training.checkpoint import Checkpointer
from megatron_mimo.training.probe import Probe
from megatron_mimo.training.state import Progress
from support.records import record

MODEL = ModelConfig(
    num_layers=1, hidden_size=32, ffn_hidden_size=48, num_attention_heads=2, num_query_groups=1, kv_channels=16,
    vocab_size=64,
)  # fmt: skip
pytestmark = pytest.mark.timeout(120)
write = FileSystemWriterAsync.write_preloaded_data


def killed(*arguments: Any, **options: Any) -> None:
    """What the kernel does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def second_is_killed(transforms: list[Any], index: int, *arguments: Any, **options: Any) -> None:
    (killed if index == 1 else write)(transforms, index, *arguments, **options)


def save(checkpoints: Checkpointer, step: int) -> None:
    checkpoints.save(Progress(step=step), {})
    checkpoints.finish_pending()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(("asynchronous", "fault"), [(False, second_is_killed), (True, killed)])
def test_a_killed_writer_is_a_message(
    asynchronous: bool, fault: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe(model=MODEL, precision=PrecisionConfig(dtype="fp32"), seq_length=8)
    options = CheckpointConfig(asynchronous=asynchronous)
    checkpoints = Checkpointer(tmp_path, options, probe.wrapped, probe.optimizer, record(model=MODEL))
    save(checkpoints, 1)
    monkeypatch.setattr(FileSystemWriterAsync, "write_preloaded_data", staticmethod(fault))
    with pytest.raises(UserError, match=r"step_00000002.*could not be written.*was killed \(signal 9\)"):
        save(checkpoints, 2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000001"]
    monkeypatch.undo()
    save(checkpoints, 2)
    parameter = next(probe.chunks[0].parameters())
    before = parameter.detach().clone()
    torch.nn.init.zeros_(parameter)
    checkpoints.load(tmp_path / "step_00000002")
    assert torch.equal(parameter, before)
