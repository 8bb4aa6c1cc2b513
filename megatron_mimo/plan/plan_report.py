"""The plan of a run as plain values (for JSON) and as text."""

from dataclasses import asdict, replace
from typing import Any

from megatron_mimo.config import ConfigError, PretrainConfig
from megatron_mimo.plan.flops import training_flops_per_token
from megatron_mimo.plan.hardware import GPU
from megatron_mimo.plan.layout_search import SearchResult, search_layouts
from megatron_mimo.plan.layouts import Plan, StageEstimate, estimate_run
from megatron_mimo.plan.workload import Variant

GB = 1e9
LOSS_WORTH_NAMING = 0.005


def make_report(
    config: PretrainConfig,
    parameters: dict[str, int],
    gpus: int,
    gpu: GPU,
    mfu: float,
    top: int,
    variant: Variant | None = None,
) -> dict[str, Any]:
    """Everything that is shown, as plain values in bytes, seconds, days and shares of a step.

    `parameters`: total, main and mtp of the built model. Raises ConfigError for a request that cannot be planned.
    """
    variant = variant or Variant()
    search = search_layouts(config, gpus, gpu, mfu, top, variant)
    alone = {
        stage.name: search_layouts(replace(config, stages=[stage]), gpus, gpu, mfu, 1, variant)
        for stage in config.stages
    }
    return {
        "run": config.name,
        "gpus": gpus,
        "gpu": asdict(gpu) | {"usable_memory_bytes": gpu.usable_memory_bytes},
        "mfu_before_losses": mfu,
        "variant": asdict(variant),
        "parameters": parameters,
        "training_flops_per_token": flops_by_length(config),
        "tokens": config.total_tokens,
        "configured": describe_configured(config, gpus, gpu, mfu, variant),
        "best": [describe_plan(plan, gpu) for plan in search.plans],
        "best_of_each_stage": {name: describe_best(result, gpu) for name, result in alone.items()},
        "rejected": [asdict(rejection) for rejection in search.rejected],
    }


def flops_by_length(config: PretrainConfig) -> dict[str, Any]:
    lengths = sorted({stage.seq_length for stage in config.stages})
    counts = {str(length): training_flops_per_token(config.model, length) for length in lengths}
    return {length: asdict(count) | {"main": count.main, "total": count.total} for length, count in counts.items()}


def describe_configured(config: PretrainConfig, gpus: int, gpu: GPU, mfu: float, variant: Variant) -> dict[str, Any]:
    """The layout in the file, or why it cannot run on this many GPUs."""
    try:
        return describe_plan(estimate_run(config, gpus, gpu, mfu, variant), gpu)
    except ConfigError as error:
        return {"error": str(error)}


def describe_best(result: SearchResult, gpu: GPU) -> dict[str, Any] | None:
    return describe_plan(result.plans[0], gpu) if result.plans else None


def describe_plan(plan: Plan, gpu: GPU) -> dict[str, Any]:
    return {
        "fits": plan.fits(gpu),
        "days": plan.days,
        "tokens_per_second": plan.tokens_per_second,
        "stages": [describe_stage(stage) for stage in plan.stages],
    }


def describe_stage(stage: StageEstimate) -> dict[str, Any]:
    work = stage.work
    return {
        "stage": stage.stage,
        "tokens": stage.tokens,
        "parallel": asdict(work.parallel),
        "data_parallel_size": work.data_parallel_size,
        "micro_batch_size": work.micro_batch_size,
        "num_microbatches": work.num_microbatches,
        "memory": [asdict(memory) | {"total": memory.total} for memory in stage.memory],
        "communication": [asdict(traffic) for traffic in stage.traffic],
        "step_seconds": stage.step_seconds,
        "tokens_per_second": stage.tokens_per_second,
        "mfu": stage.mfu,
        "lost": stage.lost,
        "days": stage.days,
    }


def render(report: dict[str, Any]) -> str:
    """The report as text."""
    blocks = [
        render_head(report),
        render_flops(report),
        render_configured(report),
        render_best(report),
        render_alone(report),
        render_rejected(report),
    ]
    return "\n\n".join(blocks)


def render_head(report: dict[str, Any]) -> str:
    gpu, count = report["gpu"], report["parameters"]
    return (
        f"{report['run']} on {report['gpus']} x {gpu['name']}\n"
        f"  parameters       {count['total']:,} (main {count['main']:,}, MTP {count['mtp']:,}), of the built model\n"
        f"  tokens           {report['tokens']:,}, the sum of the stages (MiMo-7B's phases add up to 23.784T,"
        " not to the 25T of the report's text)\n"
        f"  a GPU            {gpu['usable_memory_bytes'] / GB:.1f} of {gpu['memory_bytes'] / GB:.0f} GB usable,"
        f" {gpu['bf16_tflops']:g} TFLOP/s bf16, NVLink {gpu['nvlink_bytes_per_second'] / GB:.0f} GB/s,"
        f" network {gpu['network_bytes_per_second'] / GB:.0f} GB/s, one direction\n"
        f"  source           {gpu['source']}\n"
        f"  assumed          MFU {report['mfu_before_losses']:g} before bubbles, recomputation, exposed communication"
        + render_variant(report["variant"])
    )


def render_variant(variant: dict[str, Any]) -> str:
    """What is planned for that this trainer does not do; nothing where that is nothing."""
    share = variant["optimizer_offload_ratio"]
    text = f"\n  not this trainer {share:.0%} of the optimizer's state on the host: what other trainers can do"
    return text if share else ""


def render_flops(report: dict[str, Any]) -> str:
    names = ("attention_projections", "attention_core", "mlp", "head", "mtp_layers", "mtp_heads", "main", "total")
    counts = report["training_flops_per_token"]
    convention = next(iter(counts.values()))["convention"]
    rows = [["sequence", *(name.replace("_", " ") for name in names)]]
    rows += [[length, *(f"{count[name] / 1e9:.2f}" for name in names)] for length, count in counts.items()]
    return f"Training GFLOP per token ({convention})\n" + table(rows)


def render_configured(report: dict[str, Any]) -> str:
    plan = report["configured"]
    if "error" in plan:
        return f"Configured layout: cannot run on {report['gpus']} GPUs\n  {plan['error']}"
    fit = "fits" if plan["fits"] else "DOES NOT FIT"
    rate = plan["tokens_per_second"] / report["gpus"]
    head = f"Configured layout: {layout_name(plan)}: {rate:,.0f} tokens/s/GPU, {plan['days']:.1f} days, {fit}"
    return "\n".join(
        [
            head,
            render_memory(plan["stages"]),
            "",
            render_traffic(plan["stages"]),
            "",
            render_speed(plan, report["gpus"]),
        ]
    )


def render_memory(stages: list[dict[str, Any]]) -> str:
    parts = ("weights", "gradients", "optimizer", "activations", "logits", "workspace", "total", "host")
    rows = [["memory, GB per rank", "pipeline rank", "peak in", *parts[:-1], "host, at a save"]]
    for stage in stages:
        for memory in stage["memory"]:
            sizes = [f"{memory[part] / GB:.1f}" for part in parts]
            rows.append([stage["stage"], str(memory["pipeline_rank"]), memory["phase"], *sizes])
    return table(rows)


def render_traffic(stages: list[dict[str, Any]]) -> str:
    rows = [["communication a step and rank", "kind", "GB sent", "seconds", "exposed", "how"]]
    for stage in stages:
        for item in stage["communication"]:
            if item["sent_bytes"]:
                numbers = [f"{item['sent_bytes'] / GB:.1f}", f"{item['seconds']:.3f}", f"{item['exposed_seconds']:.3f}"]
                rows.append([stage["stage"], item["kind"], *numbers, item["how"]])
    return table(rows)


def render_speed(plan: dict[str, Any], gpus: int) -> str:
    rows = [["speed", "DP", "micro-batches", "step, s", "tokens/s", "tokens/s/GPU", "MFU", "days", "lost to"]]
    for stage in plan["stages"]:
        rate = stage["tokens_per_second"]
        rows.append(
            [
                stage["stage"],
                str(stage["data_parallel_size"]),
                f"{stage['num_microbatches']} x {stage['micro_batch_size']}",
                f"{stage['step_seconds']:.2f}",
                f"{rate:,.0f}",
                f"{rate / gpus:,.0f}",
                f"{stage['mfu']:.3f}",
                f"{stage['days']:.1f}",
                losses(stage),
            ]
        )
    return table(rows)


def render_best(report: dict[str, Any]) -> str:
    if not report["best"]:
        return "Best layouts for the whole run: none divides the batches and fits; see the reasons below."
    rows = [["best layouts for the whole run", "days", "fullest rank, GB", "why"]]
    rows += [
        [layout_name(plan), f"{plan['days']:.1f}", f"{fullest(plan) / GB:.1f}", why(plan)] for plan in report["best"]
    ]
    return table(rows)


def render_alone(report: dict[str, Any]) -> str:
    rows = [["best layout of a stage alone", "layout", "days", "fullest rank, GB", "why"]]
    for stage, plan in report["best_of_each_stage"].items():
        if plan is None:
            rows.append([stage, "none fits", "", "", ""])
        else:
            rows.append([stage, layout_name(plan), f"{plan['days']:.1f}", f"{fullest(plan) / GB:.1f}", why(plan)])
    return table(rows) + "\n  (a stage may have its own, stages[].parallel: the run then continues in it by itself)"


def render_rejected(report: dict[str, Any]) -> str:
    lines = [f"  {item['layouts']:>4}  {item['reason']}; first: {item['example']}" for item in report["rejected"]]
    return "Layouts left out\n" + ("\n".join(lines) or "  none")


def layout_name(plan: dict[str, Any]) -> str:
    """Of every stage, each layout once: `TP1 PP1 CP1 DP256, recompute none | TP1 PP1 CP4 DP64, recompute none`."""
    return " | ".join(dict.fromkeys(stage_layout(stage) for stage in plan["stages"]))


def stage_layout(stage: dict[str, Any]) -> str:
    parallel = stage["parallel"]
    sizes = [
        f"TP{parallel['tensor_model_parallel_size']}" + ("+SP" if parallel["sequence_parallel"] else ""),
        f"PP{parallel['pipeline_model_parallel_size']}",
        f"CP{parallel['context_parallel_size']}",
        f"DP{stage['data_parallel_size']}",
    ]
    if parallel["virtual_pipeline_model_parallel_size"]:
        sizes.insert(2, f"VP{parallel['virtual_pipeline_model_parallel_size']}")
    layers = parallel["recompute_num_layers"]
    return f"{' '.join(sizes)}, recompute {parallel['recompute']}" + (f" of {layers} layers" if layers else "")


def losses(stage: dict[str, Any]) -> str:
    named = sorted(((share, name) for name, share in stage["lost"].items()), reverse=True)
    return ", ".join(f"{name} {share:.1%}" for share, name in named if share > LOSS_WORTH_NAMING) or "nothing over 0.5%"


def why(plan: dict[str, Any]) -> str:
    """Tokens/s of each stage's step and what it loses most to."""
    loss_lists = dict.fromkeys(f"{losses(stage)}" for stage in plan["stages"])
    batches = "/".join(str(stage["micro_batch_size"]) for stage in plan["stages"])
    return f"micro-batch {batches}; loses {' | '.join(loss_lists)}"


def fullest(plan: dict[str, Any]) -> float:
    return max(memory["total"] for stage in plan["stages"] for memory in stage["memory"])


def table(rows: list[list[str]]) -> str:
    """Columns padded to their widest cell; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "  " + "-" * (len(lines[0]) - 2), *lines[1:]])
