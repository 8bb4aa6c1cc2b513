"""What the solver found: a mixture file a stage, a table, and JSON."""

from pathlib import Path
from typing import Any

import numpy as np

from megatron_mimo.data.balance.rounding import UNITS, round_shares
from megatron_mimo.data.balance.solver import amount, preferred_shares, solve
from megatron_mimo.data.balance.spec import BalanceSpec, describe, select
from megatron_mimo.platform.files import write_json, write_text


def solve_mixture(spec: BalanceSpec) -> dict[str, Any]:
    """Solve, write `STAGE.yaml` and `mixture.json` into the spec's folder, and return the content of the latter.

    Raises UserError, and writes nothing, when the targets cannot be met.
    """
    sources, shares = solve(spec)
    units = round_shares(shares, spec.stages, sources)
    report = _report(spec, sources, units)
    folder = Path(spec.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for stage, row in zip(spec.stages, units, strict=True):
        weights = {source.name: int(n) for source, n in zip(sources, row, strict=True) if n}
        _write_mixture(folder / f"{stage.name}.yaml", f"{stage.name}: {amount(stage.tokens)} tokens", weights)
    write_json(folder / "mixture.json", report)
    return report


def _write_mixture(path: Path, title: str, units: dict[str, int]) -> None:
    lines = [f"# {title}. Made by megatron-mimo mixture solve; mixture.json has the epochs.", "sources:"]
    lines += [f"  {name}: {number / UNITS:.4f}" for name, number in units.items()]
    write_text(path, "\n".join(lines) + "\n")


def _report(spec: BalanceSpec, sources: list, units: np.ndarray) -> dict[str, Any]:
    """Tokens and epochs by source and stage, and the share that each target got."""
    rows = []
    for number, source in enumerate(sources):
        stages = {
            stage.name: {
                "weight": int(units[s, number]) / UNITS,
                "preferred": round(float(preferred_shares(stage, sources)[number]), 6),
                "tokens": float(units[s, number]) * stage.tokens / UNITS,
                "epochs": float(units[s, number]) * stage.tokens / UNITS / source.tokens,
            }
            for s, stage in enumerate(spec.stages)
        }
        epochs = sum(stage["epochs"] for stage in stages.values())
        rows.append({"name": source.name, "tokens": source.tokens, "labels": source.labels, "stages": stages})
        rows[-1] |= {"epochs": epochs, "max_epochs": source.max_epochs}
    targets = [
        {
            "stage": stage.name,
            "where": describe(target.where),
            "lowest": target.lowest,
            "highest": target.highest,
            "share": int(units[s, select(sources, target.where)].sum()) / UNITS,
        }
        for s, stage in enumerate(spec.stages)
        for target in stage.targets
    ]
    return {"stages": {stage.name: stage.tokens for stage in spec.stages}, "sources": rows, "targets": targets}


def render(report: dict[str, Any]) -> str:
    """The report as a table: share and epochs of each source in each stage."""
    stages = report["stages"]
    head = "".join(f" | {name[:9]:>9} {amount(tokens):>7}" for name, tokens in stages.items())
    lines = [f"{'source':<28} {'tokens':>8}{head} | {'epochs':>7} {'of':>5}"]
    for source in report["sources"]:
        cells = (source["stages"][name] for name in stages)
        row = "".join(f" | {100 * cell['weight']:>7.2f} % {cell['epochs']:>6.2f}x" for cell in cells)
        lines.append(
            f"{source['name'][:28]:<28} {amount(source['tokens']):>8}{row} | {source['epochs']:>6.2f}x"
            f" {source['max_epochs']:>5g}"
        )
    lines.append("")
    lines += [
        f"{target['stage']}: {target['where']}: {100 * target['share']:.2f} % (asked"
        f" {100 * target['lowest']:.4g} to {100 * target['highest']:.4g} %)"
        for target in report["targets"]
    ]
    return "\n".join(lines)
