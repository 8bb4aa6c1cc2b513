r"""Plan a training run on paper: parameters, FLOPs, memory, communication, days, and the best parallel layouts.

    megatron-mimo plan examples/mimo_7b/pretrain.yaml --gpus 256 --gpu h100
    megatron-mimo plan examples/mimo_7b/pretrain.yaml parallel.recompute=full --gpus 512 --gpu h800 --json
    megatron-mimo plan examples/mimo_7b/pretrain.yaml --gpus 64 \
        --gpu memory_gib=95,bf16_tflops=148,fp8_tflops=296,link_gb_per_second=450,network_gb_per_second=50

Nothing is trained and no GPU is needed. docs/plan.md explains the formulas and what is left out.
"""

import argparse
import json

from megatron_mimo.cli.command import exit_code, settings_parser
from megatron_mimo.config import PretrainConfig, load
from megatron_mimo.plan.hardware import DEFAULT_MFU, GPUS, find_gpu


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_intermixed_args(arguments)
    return exit_code(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Print the plan; raises UserError."""
    from megatron_mimo.plan.layouts import check_request
    from megatron_mimo.plan.plan_report import make_report, render
    from megatron_mimo.plan.workload import Variant
    from megatron_mimo.training.checkpoint_model import model_of

    config = load(PretrainConfig, options.settings, model_of)
    gpu = find_gpu(options.gpu)
    check_request(config, options.gpus, gpu, options.mfu)
    variant = Variant(optimizer_offload_ratio=options.offload_optimizer)
    report = make_report(config, count_parameters(config), options.gpus, gpu, options.mfu, options.top, variant)
    print(json.dumps(report, indent=2) if options.json else render(report))


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = settings_parser(__doc__)
    parser.add_argument("--gpus", type=int, required=True, help="number of GPUs, eight a node")
    parser.add_argument(
        "--gpu",
        default="h100",
        help=f"kind of GPU: {', '.join(GPUS)}; figures of one's own, key=value,...; or a YAML file",
    )
    parser.add_argument(
        "--mfu",
        type=float,
        default=DEFAULT_MFU,
        help=f"MFU before bubbles, recomputation and exposed communication (default {DEFAULT_MFU})",
    )
    others = parser.add_argument_group("what other trainers can do, and this one does not (docs/plan.md)")
    others.add_argument(
        "--offload-optimizer", type=float, default=0.0, metavar="SHARE", help="optimizer state in host memory, 0 to 1"
    )
    parser.add_argument("--top", type=int, default=5, help="layouts to list (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


def count_parameters(config: PretrainConfig) -> dict[str, int]:
    """Parameters of the built megatron-core model, on the meta device."""
    from megatron_mimo.model import build

    count = build.count_parameters(config.model)
    return {"total": count.total, "main": count.main, "mtp": count.mtp}
