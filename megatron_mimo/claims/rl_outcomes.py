"""The outcomes of an RL run, from its metrics: megatron-mimo claims measure RUN_FOLDER OUTCOMES.json

start/KIND, end/KIND    held-out pass@1 of every domain of a kind (arithmetic, program; all), before and after RL
entropy                 of the policy, nats per token, the mean of the last quarter of the steps
gradient norm spread    standard deviation of its logarithm over the steps: how uneven the updates are
tokens per group        generated for each group that was trained on, over the whole run
first reward            mean reward of the first five steps
"""

import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from megatron_mimo.config.errors import UserError
from megatron_mimo.platform.files import write_json
from megatron_mimo.record.rows import METRICS, read_rows

FIRST_STEPS = 5
Outcomes = dict[str, dict[str, float]]


def run(folder: Path, output: Path) -> None:
    """Read the metrics and write the outcomes; raises UserError where the run has not been measured at both ends."""
    rows = list(read_rows(folder / METRICS))
    validations = [row for row in rows if row["kind"] == "validation"]
    steps = [row for row in rows if row["kind"] == "step"]
    if len(validations) < 2 or not steps:
        raise UserError(f"{folder / METRICS} has no validation before and after the steps")
    found = {f"start/{kind}": solved for kind, solved in by_kind(validations[0]).items()}
    found |= {f"end/{kind}": solved for kind, solved in by_kind(validations[-1]).items()}
    write_json(output, {"precision": "", "outcomes": found | of_steps(steps)})


def by_kind(validation: dict[str, Any]) -> Outcomes:
    """Kind (the first word of a domain) -> domain -> pass@1; `all` has every domain."""
    found: Outcomes = defaultdict(dict)
    for domain, result in validation["domains"].items():
        found[domain.split("/")[0]][domain] = float(result["solved"])
        found["all"][domain] = float(result["solved"])
    return dict(found)


def of_steps(steps: list[dict[str, Any]]) -> Outcomes:
    """What the steps say, one number each."""
    last = steps[-max(1, len(steps) // 4) :]
    norms = [math.log(max(step["trainer"]["grad_norm"], 1e-9)) for step in steps]
    trained = sum(step["outcomes"].get("selected", 0) for step in steps)
    generated = sum(step["generated_tokens"] for step in steps)
    return {
        "entropy": {"run": statistics.fmean(step["trainer"]["entropy"] for step in last)},
        "gradient norm spread": {"run": statistics.stdev(norms) if len(norms) > 1 else 0.0},
        "tokens per group": {"run": generated / max(trained, 1)},
        "first reward": {"run": statistics.fmean(step["reward"] for step in steps[:FIRST_STEPS])},
    }
