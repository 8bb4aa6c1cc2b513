"""What the folder of a training run tells of the run behind a checkpoint, for the model's card."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from megatron_mimo.config import UserError
from megatron_mimo.training.history import read_history


@dataclass(frozen=True)
class RunRecord:
    """Empty fields where the run folder does not hold them (any more)."""

    command: str = ""
    """The command line that trains, or resumes, the run."""
    held_out_losses: dict[str, float] = field(default_factory=dict)
    """Of the newest evaluation up to the checkpoint, by source, nats a token."""
    curve: bytes | None = None
    """PNG: loss and MTP losses over consumed tokens, up to the checkpoint."""


def read_run_record(checkpoint: Path, step: int) -> RunRecord:
    """The record of the run that wrote `<output_dir>/checkpoints/step_N`; an empty one where its files are gone."""
    output_dir = checkpoint.resolve().parent.parent
    command = output_dir / "command.txt"
    try:
        history = read_history(output_dir / "metrics.jsonl")
    except UserError:
        return RunRecord()
    steps = [row for row in history.steps if row["step"] <= step]
    evaluations = [row for row in history.evaluations if row["step"] <= step]
    return RunRecord(
        command=command.read_text().strip() if command.is_file() else "",
        held_out_losses=evaluations[-1]["losses"] if evaluations else {},
        curve=loss_curve(steps) if len(steps) > 1 else None,
    )


def loss_curve(steps: list[dict[str, Any]]) -> bytes:
    """PNG of the losses in `History.steps`."""
    figure = Figure(figsize=(7, 3.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    tokens = [row["consumed_tokens"] for row in steps]
    axes.plot(tokens, [row["loss"] for row in steps], label="next token", linewidth=1.4)
    for depth in range(len(steps[-1]["mtp_losses"])):
        losses = [row["mtp_losses"][depth] for row in steps]
        axes.plot(tokens, losses, label=f"MTP layer {depth + 1}", linewidth=1)
    axes.set(xlabel="consumed tokens", ylabel="loss, nats a token")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image)
    return image.getvalue()
