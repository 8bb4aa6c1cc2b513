"""`precision.dtype: auto` becomes bf16 or fp32, once and before anything is built: a run keeps the format it has."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from megatron_mimo.config import UserError
from megatron_mimo.config.precision import PrecisionConfig
from megatron_mimo.config.run import RunConfig
from megatron_mimo.platform.number_format import NumberFormat, best_format, slow_bf16_warning
from megatron_mimo.training.checkpoint_files import CHECKPOINTS, resumable_record

Run = TypeVar("Run", bound=RunConfig)


def with_number_format(config: Run) -> Run:
    """`config` with its number format decided for this machine; rank 0 says what is out of the ordinary, once."""
    started = started_with(Path(config.output_dir))
    precision = decided(config.precision, started)
    if int(os.environ.get("RANK", "0")) == 0:
        for line in remarks(config.precision.dtype, precision, started):
            print(line, file=sys.stderr, flush=True)
    return replace(config, precision=precision)


def decided(precision: PrecisionConfig, started: str | None) -> PrecisionConfig:
    """`precision` with a dtype of bf16 or fp32 and the reason; `started`: the dtype of the run to be resumed."""
    chosen = _choice(precision, started)
    return replace(precision, dtype=chosen.dtype, dtype_reason=chosen.reason)


def started_with(output_dir: Path) -> str | None:
    """The dtype of the newest checkpoint that a run in `output_dir` would resume from; None where there is none."""
    record = resumable_record(output_dir / CHECKPOINTS)
    return record.dtype if record else None


def remarks(asked: str, precision: PrecisionConfig, started: str | None) -> list[str]:
    """What should be known before training: another format than before, than this machine's own, or a slow one."""
    dtype, best = precision.dtype, best_format()
    lines = []
    if started not in (None, dtype):
        lines.append(
            f"precision.dtype={dtype} ({precision.dtype_reason}): this run was trained in {started} so far, and goes"
            f" on in {dtype}"
        )
    elif asked == "auto" and started and dtype != best.dtype:
        lines.append(
            f"precision.dtype={dtype}, as the run started; this machine would choose {best.dtype}: {best.reason}"
        )
    if dtype == "bf16" and (slow := slow_bf16_warning()):
        lines.append(f"warning: precision.dtype=bf16 ({precision.dtype_reason}): {slow}")
    return lines


def check_same_number_format(dtype: str) -> None:
    """Raise UserError on every rank where `precision.dtype: auto` has decided otherwise on one of them."""
    seen = torch.tensor([dtype == "bf16", dtype != "bf16"], dtype=torch.int32)
    dist.all_reduce(seen, op=dist.ReduceOp.MAX)
    if seen.all():
        raise UserError(
            "precision.dtype=auto chose bf16 on some ranks and fp32 on others: their machines differ, or see different"
            " checkpoints in output_dir; set precision.dtype to bf16 or fp32"
        )


def _choice(precision: PrecisionConfig, started: Any) -> NumberFormat:
    if precision.dtype != "auto":
        return NumberFormat(precision.dtype, "asked for by precision.dtype")
    if precision.fp8_recipe != "none":
        return NumberFormat("bf16", f"auto: precision.fp8_recipe={precision.fp8_recipe} needs bf16 beside FP8")
    if started is not None:
        return NumberFormat(started, "auto: as the run started")
    best = best_format()
    return NumberFormat(best.dtype, f"auto: {best.reason}")
