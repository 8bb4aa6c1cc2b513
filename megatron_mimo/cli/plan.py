"""Plan a training run on paper: parameters, FLOPs, memory, communication, days, and the best parallel layouts.

    megatron-mimo plan examples/mimo_7b/pretrain.yaml --gpus 256 --gpu h100
    megatron-mimo plan examples/mimo_7b/pretrain.yaml parallel.recompute=full --gpus 512 --gpu h800 --json

Nothing is trained and no GPU is needed. docs/plan.md explains the formulas and what is left out.
"""

import argparse
import json

from megatron_mimo.cli.command import exit_code, settings_parser
from megatron_mimo.config import PretrainConfig, load
from megatron_mimo.model.hardware import DEFAULT_MFU, GPUS, find_gpu
from megatron_mimo.model.layouts import check_request
from megatron_mimo.model.plan_report import make_report, render


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    return exit_code(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Print the plan; raises UserError."""
    config = load(PretrainConfig, options.settings)
    gpu = find_gpu(options.gpu)
    check_request(config, options.gpus, gpu, options.mfu)
    report = make_report(config, count_parameters(config), options.gpus, gpu, options.mfu, options.top)
    print(json.dumps(report, indent=2) if options.json else render(report))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = settings_parser(__doc__)
    parser.add_argument("--gpus", type=int, required=True, help="number of GPUs, eight a node")
    parser.add_argument("--gpu", default="h100", help=f"kind of GPU: {', '.join(GPUS)}")
    parser.add_argument(
        "--mfu",
        type=float,
        default=DEFAULT_MFU,
        help=f"MFU before bubbles, recomputation and exposed communication (default {DEFAULT_MFU})",
    )
    parser.add_argument("--top", type=int, default=5, help="layouts to list (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser.parse_intermixed_args(arguments)


def count_parameters(config: PretrainConfig) -> dict[str, int]:
    """Parameters of the built megatron-core model, on the meta device."""
    from megatron_mimo.model import build

    count = build.count_parameters(config.model)
    return {"total": count.total, "main": count.main, "mtp": count.mtp}
