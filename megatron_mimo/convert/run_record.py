"""What the folder of a training run tells of the run behind a checkpoint, for the model's card."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from megatron_mimo.config import UserError
from megatron_mimo.config.load import read_yaml
from megatron_mimo.convert.card_results import read_results
from megatron_mimo.training.history import read_history


@dataclass(frozen=True)
class RunRecord:
    """Empty fields where the run folder does not hold them (any more)."""

    command: str = ""
    """The command line that trains, or resumes, the run."""
    held_out_losses: dict[str, float] = field(default_factory=dict)
    """Of the newest evaluation up to the checkpoint, by source, nats per token."""
    curve: bytes | None = None
    """PNG: loss and MTP losses over consumed tokens, up to the checkpoint."""
    results: dict[str, Any] = field(default_factory=dict)
    """What evaluation.json and chat.json say of this checkpoint."""
    prompt: str = ""
    """A problem that was held out of the training data."""


def read_run_record(checkpoint: Path, step: int) -> RunRecord:
    """The record of the run that wrote `<output_dir>/checkpoints/step_N`; an empty one where its files are gone."""
    output_dir = checkpoint.resolve().parent.parent
    command = output_dir / "command.txt"
    results, prompt = read_results(output_dir, step), _held_out_prompt(output_dir / "config.yaml")
    try:
        history = read_history(output_dir / "metrics.jsonl")
    except UserError:
        return RunRecord(results=results, prompt=prompt)
    steps = [row for row in history.steps if row["step"] <= step]
    evaluations = [row for row in history.evaluations if row["step"] <= step]
    return RunRecord(
        command=command.read_text().strip() if command.is_file() else "",
        held_out_losses=evaluations[-1]["losses"] if evaluations else {},
        curve=loss_curve(steps) if len(steps) > 1 else None,
        results=results,
        prompt=prompt,
    )


def _held_out_prompt(config: Path) -> str:
    """The first problem that the run's data folder holds out; empty where there is none in reach."""
    try:
        problems = Path(read_yaml(config)["data"]["path"]) / "heldout" / "arithmetic.jsonl"
        with problems.open(encoding="utf-8") as lines:
            return str(json.loads(next(lines))["prompt"])
    except (UserError, OSError, LookupError, TypeError, ValueError, StopIteration):
        return ""


def loss_curve(steps: list[dict[str, Any]]) -> bytes:
    """PNG of the losses in `History.steps`."""
    figure = Figure(figsize=(7, 3.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    tokens = [row["consumed_tokens"] for row in steps]
    axes.plot(tokens, [row["loss"] for row in steps], label="next token", linewidth=1.4)
    for depth in range(len(steps[-1]["mtp_losses"])):
        losses = [row["mtp_losses"][depth] for row in steps]
        axes.plot(tokens, losses, label=f"MTP layer {depth + 1}", linewidth=1)
    axes.set(xlabel="consumed tokens", ylabel="loss, nats per token")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image)
    return image.getvalue()
