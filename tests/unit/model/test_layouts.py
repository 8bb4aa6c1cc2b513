"""Step times against published throughput and the pipeline's own arithmetic; the search against its constraints."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import ConfigError, ParallelConfig, PrecisionConfig, PretrainConfig, load
from megatron_mimo.config.load import from_tree
from megatron_mimo.plan.hardware import DEFAULT_MFU, GPUS
from megatron_mimo.plan.layout_search import search_layouts, sizes
from megatron_mimo.plan.layouts import estimate_run, estimate_stage
from megatron_mimo.plan.workload import Workload
from support.models import LLAMA3_8B

H100 = GPUS["h100"]
MIMO_7B = Path(__file__).parents[3] / "examples" / "mimo_7b" / "pretrain.yaml"


@pytest.fixture(scope="module")
def config() -> PretrainConfig:
    """One layout for all stages, in bf16 with fp32 gradients and whole heads."""
    plain = ["precision.cross_entropy=whole", "precision.fuse_gradient_accumulation=false", "stages.2.parallel=null"]
    cut = "parallel={tensor_model_parallel_size: 2, sequence_parallel: true}"
    return load(PretrainConfig, [str(MIMO_7B), cut, *plain])


def estimate(config: PretrainConfig, world_size: int = 256, efficiency: float = 0.5, **changes):
    parallel = replace(config.parallel, **changes)
    stage = config.stages[0]
    work = Workload.of(replace(config, parallel=parallel), stage, world_size)
    return estimate_stage(stage.name, stage.tokens, work, H100, efficiency)


def test_default_efficiency_predicts_a_published_fp8_throughput(config: PretrainConfig) -> None:
    """Megatron-Bridge 25.11: Llama3-8B, FP8, 8k, on 8 H100: 14 451 tokens/s/GPU."""
    work = Workload(
        model=LLAMA3_8B,
        parallel=ParallelConfig(),
        precision=PrecisionConfig(fp8_recipe="tensorwise"),
        backend="transformer_engine",
        seq_length=8192,
        micro_batch_size=1,
        global_batch_size=128,
        world_size=8,
    )
    result = estimate_stage("published", 1, work, H100, DEFAULT_MFU)
    assert result.tokens_per_second / 8 == pytest.approx(14451, rel=0.05)


def test_without_losses_the_mfu_is_the_efficiency(config: PretrainConfig) -> None:
    result = estimate(config, world_size=1, tensor_model_parallel_size=1, sequence_parallel=False)
    assert result.mfu == pytest.approx(0.5)
    assert not any(result.lost.values())


def test_days_are_tokens_over_rate(config: PretrainConfig) -> None:
    """23.784T tokens, not the 25T of the report's text; 54.45 and 76.79 GFLOP per token at 8k and 32k."""
    assert config.total_tokens == 23_784_000_000_000
    plan = estimate_run(config, 256, H100, 0.5)
    by_hand = sum(
        tokens * gigaflops * 1e9 / (256 * stage.mfu * 989.5e12) / 86400
        for tokens, gigaflops, stage in zip((17.784e12, 4e12, 2e12), (54.45, 54.45, 76.79), plan.stages, strict=True)
    )
    assert plan.days == pytest.approx(by_hand, rel=1e-3)


def test_losses_and_the_models_own_work_make_up_the_step(config: PretrainConfig) -> None:
    layouts: list[dict[str, Any]] = [
        {"recompute": "full"},
        {"pipeline_model_parallel_size": 4, "virtual_pipeline_model_parallel_size": 3},
        {"pipeline_model_parallel_size": 2, "recompute": "selective"},
    ]
    for changes in layouts:
        world_size = 2 * 32 * changes.get("pipeline_model_parallel_size", 1)
        result = estimate(config, world_size, **changes)
        assert result.mfu / 0.5 + sum(result.lost.values()) == pytest.approx(1)


def test_pipeline_bubble_and_its_interleaving(config: PretrainConfig) -> None:
    """Bubble over busy time is (P-1)/(VM) (arXiv:2104.04473): M = 2560 / 32 = 80 here."""
    plain = estimate(config, 256, pipeline_model_parallel_size=4).lost["pipeline bubble"]
    interleaved = estimate(config, 256, pipeline_model_parallel_size=4, virtual_pipeline_model_parallel_size=3).lost[
        "pipeline bubble"
    ]
    assert plain == pytest.approx(3 / 80, rel=0.05)
    assert interleaved == pytest.approx(plain / 3, rel=0.05)


def test_last_pipeline_rank_is_the_slow_one(config: PretrainConfig) -> None:
    """It has two heads (3.5 layers' products each) and the MTP layer beside its share of the decoder."""
    result = estimate(config, 256, pipeline_model_parallel_size=4)
    assert result.lost["pipeline imbalance"] > 0.25


def test_configured_layout_that_does_not_divide_is_an_error(config: PretrainConfig) -> None:
    with pytest.raises(ConfigError, match="stage stage3: global_batch_size = 640.*data-parallel size = 256"):
        estimate_run(config, 512, H100, 0.5)
    with pytest.raises(ConfigError, match="does not divide the 255 ranks"):
        estimate_run(config, 255, H100, 0.5)


def test_fp8_on_a_gpu_without_it_is_an_error(config: PretrainConfig) -> None:
    fp8 = replace(config, precision=replace(config.precision, fp8_recipe="delayed"))
    with pytest.raises(ConfigError, match="A100 SXM 80GB has no FP8"):
        search_layouts(fp8, 64, GPUS["a100"], 0.5)


def test_search_finds_runnable_layouts_fastest_first(config: PretrainConfig) -> None:
    result = search_layouts(config, 256, H100, 0.45)
    days = [plan.days for plan in result.plans]
    assert len(days) == 5 and days == sorted(days)
    for plan in result.plans:
        assert plan.fits(H100)
        # What the search says can run, the run's own checks accept.
        chosen = [
            replace(stage, micro_batch_size=estimated.work.micro_batch_size, parallel=estimated.work.parallel)
            for stage, estimated in zip(config.stages, plan.stages, strict=True)
        ]
        replace(config, stages=chosen).check_world_size(256)
    assert any("memory" in rejection.reason for rejection in result.rejected)


@pytest.mark.parametrize("gpus", [64, 256])
def test_layouts_recommended_for_a_stage_alone_are_accepted_by_the_trainer(config: PretrainConfig, gpus: int) -> None:
    """Interleaved ones too, which need whole groups of micro-batches in the batch ramp as well."""
    interleaved = 0
    for stage in config.stages:
        for plan in search_layouts(replace(config, stages=[stage]), gpus, H100, 0.45, count=100).plans:
            (parallel,) = plan.layouts
            interleaved += parallel.virtual_pipeline_model_parallel_size is not None
            chosen = replace(stage, micro_batch_size=plan.stages[0].work.micro_batch_size)
            tree = asdict(replace(config, parallel=parallel, stages=[chosen]))
            from_tree(PretrainConfig, tree, source="plan").check_world_size(gpus)
    assert interleaved


def test_interleaved_layout_that_the_schedule_cannot_run_is_refused(config: PretrainConfig) -> None:
    """2560 sequences on 32 copies of the model: 80 micro-batches do not come in groups of three."""
    with pytest.raises(ConfigError, match="pipeline_model_parallel_size = "):
        estimate(config, 192, pipeline_model_parallel_size=3, virtual_pipeline_model_parallel_size=4)


def test_search_beats_the_configured_layout_where_that_fits(config: PretrainConfig) -> None:
    first = replace(config, stages=config.stages[:1])
    configured = estimate_run(first, 256, H100, 0.45)
    assert configured.fits(H100)
    assert search_layouts(first, 256, H100, 0.45).plans[0].days <= configured.days


def test_long_context_needs_context_parallelism_or_more_tensor_parallelism(config: PretrainConfig) -> None:
    long = replace(config, stages=config.stages[2:])
    plans = search_layouts(long, 256, H100, 0.45, count=50).plans
    assert {sizes(plan.layouts[0])[2] for plan in plans} > {1}
    for plan in plans:
        t, p, c = sizes(plan.layouts[0])
        assert t * p * c > 1


@pytest.mark.parametrize("gpus", [64, 128, 256])
def test_the_fp8_recipe_is_fast_and_fits(gpus: int) -> None:
    """With the constants that predict the published rows (test_published_runs.py)."""
    recipe = load(PretrainConfig, [str(MIMO_7B.with_name("pretrain_fp8.yaml"))])
    plan = estimate_run(recipe, gpus, H100, DEFAULT_MFU)
    assert plan.fits(H100)
    assert plan.tokens_per_second / gpus >= 12_000
    assert [stage.work.parallel.context_parallel_size for stage in plan.stages] == [1, 1, 8]
    assert len(plan.layouts) == 2
    # In bf16 more than a third slower; that fits as well, also on twice as many GPUs.
    plain = estimate_run(load(PretrainConfig, [str(MIMO_7B)]), 2 * gpus, H100, DEFAULT_MFU)
    assert plain.fits(H100) and 1.35 < plan.tokens_per_second * 2 / plain.tokens_per_second < 1.5


def test_no_more_layers_are_recomputed_than_memory_asks_for(config: PretrainConfig) -> None:
    """With one layer less the stage would not fit."""
    for plan in search_layouts(replace(config, stages=config.stages[2:]), 256, H100, 0.45, count=50).plans:
        work = plan.stages[0].work
        count = work.parallel.recompute_num_layers
        if count is not None and count > 1:
            less = replace(work, parallel=replace(work.parallel, recompute_num_layers=count - 1))
            needs = [estimate_stage("stage3", 1, one, H100, 0.45).peak_memory.total for one in (less, work)]
            assert needs[0] > H100.usable_memory_bytes >= needs[1]
            return
    raise AssertionError("no layout recomputes some layers")
