"""Every impossible setting is refused with its key, its value and a way out."""

from typing import Any

import pytest

from megatron_mimo.config import (
    BatchRamp,
    CheckpointConfig,
    ConfigError,
    DataConfig,
    LearningRateSegment,
    ModelConfig,
    MTPLossWeight,
    ParallelConfig,
    PrecisionConfig,
    PretrainConfig,
    PretrainStageConfig,
)


def model(**changes: Any) -> ModelConfig:
    sizes: dict[str, Any] = {
        "num_layers": 4,
        "hidden_size": 64,
        "ffn_hidden_size": 96,
        "num_attention_heads": 8,
        "num_query_groups": 4,
        "kv_channels": 8,
        "vocab_size": 256,
    }
    return ModelConfig(**sizes | changes)


def segment(**changes: Any) -> LearningRateSegment:
    return LearningRateSegment(**{"kind": "linear", "tokens": 1000, "start": 0.0, "end": 1e-3} | changes)


def stage(**changes: Any) -> PretrainStageConfig:
    values: dict[str, Any] = {
        "name": "one",
        "tokens": 1000,
        "seq_length": 64,
        "rotary_base": 10_000,
        "mixture": "one.yaml",
        "learning_rate": [segment()],
        "global_batch_size": 8,
    }
    return PretrainStageConfig(**values | changes)


def ramp(**changes: Any) -> BatchRamp:
    return BatchRamp(**{"start": 4, "increment": 2, "tokens": 500} | changes)


def run(**changes: Any) -> PretrainConfig:
    values: dict[str, Any] = {
        "name": "run",
        "output_dir": "runs/run",
        "model": model(),
        "stages": [stage()],
        "data": DataConfig(path="data", tokenizer="tokenizer"),
    }
    return PretrainConfig(**values | changes)


def weights(*bounds: int | None) -> list[MTPLossWeight]:
    return [MTPLossWeight(mtp_loss_scaling_factor=0.1, until_tokens=bound) for bound in bounds]


INTERLEAVED = {"pipeline_model_parallel_size": 2, "virtual_pipeline_model_parallel_size": 2}

REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (model, {"num_layers": 0}, "model.num_layers = 0: must be at least 1"),
    (model, {"hidden_size": 0}, "model.hidden_size = 0: must be at least 1"),
    (model, {"ffn_hidden_size": -1}, "model.ffn_hidden_size = -1: must be at least 1"),
    (model, {"num_attention_heads": 0}, "model.num_attention_heads = 0: must be at least 1"),
    (model, {"num_query_groups": 0}, "model.num_query_groups = 0: must be at least 1"),
    (model, {"num_query_groups": 3}, "model.num_query_groups = 3: must divide model.num_attention_heads=8"),
    (model, {"kv_channels": 7}, "model.kv_channels = 7: RoPE rotates pairs"),
    (model, {"kv_channels": 0}, "model.kv_channels = 0: RoPE rotates pairs"),
    (model, {"vocab_size": 0}, "model.vocab_size = 0: must be at least 1"),
    (model, {"mtp_num_layers": -1}, "model.mtp_num_layers = -1: must be 0 or more"),
    (ParallelConfig, {"tensor_model_parallel_size": 0}, "parallel.tensor_model_parallel_size = 0: must be at least 1"),
    (ParallelConfig, {"context_parallel_size": 0}, "parallel.context_parallel_size = 0: must be at least 1"),
    (ParallelConfig, {"sequence_parallel": True}, "parallel.sequence_parallel = True: needs"),
    (ParallelConfig, {"virtual_pipeline_model_parallel_size": 2}, "virtual_pipeline_model_parallel_size = 2: the"),
    (ParallelConfig, INTERLEAVED | {"virtual_pipeline_model_parallel_size": 1}, "parallel_size = 1: the interleaved"),
    (PrecisionConfig, {"fp8_recipe": "delayed", "dtype": "fp32"}, "fp8_recipe = 'delayed': needs precision.dtype=bf16"),
    (PrecisionConfig, {"fp8_recipe": "mxfp8", "backend": "torch"}, "fp8_recipe = 'mxfp8': FP8 layers come from"),
    (CheckpointConfig, {"every_steps": 0}, "checkpoint.every_steps = 0: must be at least 1"),
    (CheckpointConfig, {"keep_last": 0}, "checkpoint.keep_last = 0: must be at least 1"),
    (segment, {"tokens": 0}, "learning_rate.tokens = 0: a segment needs at least one token"),
    (segment, {"kind": "constant"}, "learning_rate.end = 0.001: a constant segment ends where it starts, at 0.0"),
    (ramp, {"start": 0}, "batch_ramp.start = 0: must be a multiple of increment=2"),
    (ramp, {"start": 5}, "batch_ramp.start = 5: must be a multiple of increment=2"),
    (ramp, {"increment": 0}, "batch_ramp.start = 4: must be a multiple of increment=0"),
    (ramp, {"tokens": 0}, "batch_ramp.tokens = 0: the ramp needs at least one token"),
    (stage, {"tokens": 999}, "stage one: tokens = 999: its learning_rate segments add up to 1000"),
    (stage, {"micro_batch_size": 3}, "stage one: global_batch_size = 8: must be a multiple of micro_batch_size=3"),
    (stage, {"batch_ramp": ramp(start=10)}, "must start at or below global_batch_size and fit in the stage"),
    (stage, {"batch_ramp": ramp(tokens=1001)}, "must start at or below global_batch_size and fit in the stage"),
    (run, {"stages": []}, "stages = []: a run needs at least one stage"),
    (run, {"stages": [stage(), stage()]}, "stages = ['one', 'one']: stage names must differ"),
    (run, {"mtp_loss": []}, "mtp_loss = []: until_tokens must rise, and only the last may be null"),
    (run, {"mtp_loss": weights(100)}, "mtp_loss = [100]"),
    (run, {"mtp_loss": weights(None, None)}, "mtp_loss = [None, None]"),
    (run, {"mtp_loss": weights(200, 100, None)}, "mtp_loss = [200, 100, None]"),
    (run, {"mtp_loss": weights(100, 100, None)}, "mtp_loss = [100, 100, None]"),
    (run, {"parallel": ParallelConfig(tensor_model_parallel_size=3)}, "model.vocab_size = 256: is not divisible by"),
    (run, {"parallel": ParallelConfig(tensor_model_parallel_size=8)}, "model.num_query_groups = 4: is not divisible"),
    (
        run,
        {"parallel": ParallelConfig(pipeline_model_parallel_size=3)},
        "model.num_layers = 4: is not divisible by the 3",
    ),
    (run, {"model": model(num_layers=6), "parallel": ParallelConfig(**INTERLEAVED)}, "by the 4 pipeline chunks"),
]


@pytest.mark.parametrize(("build", "changes", "expected"), REFUSED, ids=[expected for _, _, expected in REFUSED])
def test_impossible_settings_are_refused(build: Any, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(**changes)
    assert expected in str(error.value)


def test_the_settings_they_were_changed_from_are_accepted() -> None:
    run(
        stages=[stage(batch_ramp=ramp()), stage(name="two", learning_rate=[segment(kind="constant", end=0.0)])],
        mtp_loss=weights(100, 200, None),
    )
    run(parallel=ParallelConfig(tensor_model_parallel_size=4, sequence_parallel=True))
    run(parallel=ParallelConfig(**INTERLEAVED))
    assert run(stages=[stage(), stage(name="two")]).total_tokens == 2000


def test_vocabulary_that_tensor_parallelism_cannot_cut_is_told_to_pad() -> None:
    with pytest.raises(ConfigError, match="pad the vocabulary to a multiple of it"):
        run(model=model(vocab_size=257), parallel=ParallelConfig(tensor_model_parallel_size=2))


WORLDS: list[tuple[dict[str, Any], int, str]] = [
    ({"parallel": ParallelConfig(tensor_model_parallel_size=4)}, 6, "TP x PP x CP = 4': does not divide the 6 ranks"),
    ({}, 3, "stage one: global_batch_size = 8: must be a multiple of micro_batch_size x data-parallel size = 3"),
    ({"stages": [stage(micro_batch_size=4)]}, 4, "global_batch_size = 8: must be a multiple of"),
    ({"stages": [stage(batch_ramp=ramp())]}, 4, "batch_ramp.increment = 2: must be a multiple of"),
    ({"stages": [stage(batch_ramp=ramp(start=2))]}, 4, "batch_ramp.start = 2: must be a multiple of"),
    ({"stages": [stage(seq_length=66)], "parallel": ParallelConfig(context_parallel_size=2)}, 2, "seq_length = 66"),
    (
        {"stages": [stage(seq_length=66)], "parallel": ParallelConfig(tensor_model_parallel_size=4)},
        4,
        "seq_length = 66",
    ),
]


@pytest.mark.parametrize(("changes", "world_size", "expected"), WORLDS)
def test_batches_that_do_not_fit_the_ranks_are_refused(changes: dict[str, Any], world_size: int, expected: str) -> None:
    config = run(**changes)
    with pytest.raises(ConfigError) as error:
        config.check_world_size(world_size)
    assert expected in str(error.value)


def test_data_parallel_size_is_what_remains() -> None:
    parallel = ParallelConfig(tensor_model_parallel_size=2, pipeline_model_parallel_size=2)
    assert [parallel.data_parallel_size(world_size) for world_size in (4, 8, 64)] == [1, 2, 16]
    run(parallel=parallel).check_world_size(8)
