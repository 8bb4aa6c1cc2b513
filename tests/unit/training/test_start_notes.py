"""Length and RoPE base beside those of the weights that a run starts from; and saves that no evaluation can prevent."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from megatron_mimo.config import ConfigError, LearningRateSegment, StageConfig, StartConfig, UserError
from megatron_mimo.config.run import CheckpointConfig, LoRAConfig
from megatron_mimo.training.checkpoint import check_same_updates
from megatron_mimo.training.checkpoint_record import StageRecord
from megatron_mimo.training.start import context_notes, start_notes, with_lineage
from support.records import record
from support.tiny import tiny_config, tiny_tree

ORIGIN = record(stages=[StageRecord(name="base", seq_length=1024, rotary_base=640_000)])


def notes(seq_length: int, rotary_base: int, fine_tunes: bool, allow: Any = ()) -> list[str]:
    segment = LearningRateSegment(kind="constant", tokens=4096, start=1e-3, end=1e-3)
    shape = {"seq_length": seq_length, "rotary_base": rotary_base, "global_batch_size": 1}
    first = StageConfig(name="first", tokens=4096, learning_rate=[segment], **shape)
    return context_notes(first, StartConfig(checkpoint="base", allow=list(allow)), ORIGIN, fine_tunes)


@pytest.mark.parametrize(
    ("seq_length", "said"),
    [(1024, []), (96, ["sequences of 96 tokens; the starting weights are made for 1,024, which stays so"]),
     (2048, ["sequences of 2,048 tokens; the starting weights are made for 1,024"])],
)  # fmt: skip
def test_another_length_is_said(seq_length: int, said: list[str]) -> None:
    assert notes(seq_length, 640_000, fine_tunes=True) == said


def test_fine_tuning_with_another_rope_base_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rotary_base=640000, or change it on purpose with start\.allow"):
        notes(96, 10_000, fine_tunes=True)
    allowed = notes(96, 10_000, fine_tunes=True, allow=["rotary_base"])
    assert allowed == ["RoPE base 10,000, that of the starting weights is 640,000: they learn another one"]


def test_pre_training_may_change_it_and_says_so() -> None:
    """Stage 3 of the recipe, started from the weights of stage 2."""
    assert "they learn another one" in notes(1024, 10_000, fine_tunes=False)[0]


def test_a_start_that_is_not_read_is_said() -> None:
    start = StartConfig(checkpoint="base")
    assert start_notes(record(start_checkpoint="base"), start) == []
    (said,) = start_notes(record(start_checkpoint="other"), start)
    assert "start.checkpoint=base is not read: this run began from other" in said
    assert "began from random weights" in start_notes(record(), start)[0]


@pytest.mark.parametrize(
    ("saved", "now"),
    [(None, LoRAConfig()), (LoRAConfig(), None), (LoRAConfig(rank=4), LoRAConfig(rank=8)),
     (LoRAConfig(), LoRAConfig(targets=["linear_qkv"])), (LoRAConfig(), LoRAConfig(mtp_layers=False))],
)  # fmt: skip
def test_other_low_rank_updates_than_the_checkpoints_are_refused(saved: Any, now: Any) -> None:
    check_same_updates(Path("step"), saved, saved)
    with pytest.raises(UserError, match=r"step holds .* asks for .*choose\s+a new output_dir"):
        check_same_updates(Path("step"), saved, now)


def test_what_lasts_of_the_first_weights() -> None:
    """Through a fine-tuning at 96 tokens, its resumption, and a second one at 48."""

    def tuned(origin: Any, seq_length: int, rotary_base: int = 640_000) -> Any:
        stage = StageRecord(name="sft", seq_length=seq_length, rotary_base=rotary_base)
        return with_lineage(record(stages=[stage]), True, origin)

    base = replace(ORIGIN, generation_config={"do_sample": False}, hugging_face_vocab_size=380, thinks=True)
    once = tuned(base, 96)
    assert [each.context_length for each in (once, tuned(once, 96), tuned(once, 48))] == [1024] * 3
    assert tuned(once, 48).generation_config == {"do_sample": False}
    assert (tuned(once, 48).exported_vocab_size, tuned(once, 48).thinks) == (380, True)
    assert tuned(base, 2048).context_length == 2048
    rebased = tuned(base, 96, rotary_base=10_000)
    assert [rebased.context_length, tuned(rebased, 96, rotary_base=10_000).context_length] == [96, 96]


def test_a_run_saves_before_it_evaluates() -> None:
    pytest.importorskip("megatron.core")
    from megatron_mimo.training.state import Progress
    from megatron_mimo.training.trainer import Trainer

    def fails(*_: Any) -> None:
        raise RuntimeError("evaluation died")

    saved: list[int] = []
    trainer: Any = object.__new__(Trainer)
    trainer.progress, trainer.saved_step = Progress(3, 300, 0, 3), 0
    trainer.config = SimpleNamespace(checkpoint=CheckpointConfig(every_steps=1000), max_steps=3, stages=[None])
    trainer.schedule = SimpleNamespace(total_tokens=300, stage_index=lambda tokens: 0)
    trainer.guard = SimpleNamespace(start_stage=lambda: None, state_dict=dict)
    trainer.evaluator = SimpleNamespace(is_due=lambda *_: True, evaluate=fails)
    trainer.callbacks = SimpleNamespace(on_checkpoint=lambda path: None)
    trainer.checkpoints = SimpleNamespace(poll=lambda: None, save=lambda progress, guard: saved.append(progress.step))
    with pytest.raises(RuntimeError, match="evaluation died"):
        trainer._after_step(Progress(2, 200, 0, 2))
    assert (saved, trainer.saved_step) == ([3], 3)


def test_lora_of_the_projection_alone_needs_a_layer_that_has_it() -> None:
    tree = tiny_tree(Path("data"), Path("run")) | {"start": {"checkpoint": "base"}, "lora": {"targets": ["eh_proj"]}}
    assert tiny_config(tree).lora == LoRAConfig(targets=["eh_proj"])
    tree["model"] |= {"mtp_num_layers": 0}
    with pytest.raises(UserError, match="name further layers"):
        tiny_config(tree)
