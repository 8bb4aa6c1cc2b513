"""The outcomes of an RL run, from what it recorded: megatron-mimo claims measure RUN_FOLDER OUTCOMES.json

start/KIND, end/KIND    of every held-out problem of a kind (the first word of its domain; `all` has each): the share
                        of samples that solve it, before and after RL
entropy                 of the policy at every step of the last quarter, nats per token
gradient norm spread    standard deviation of its logarithm over the steps: how uneven the updates are; one number
tokens per group        generated for each group that was trained on, over the whole run; one number
selected tokens         mean length of the responses that were trained on, per step
rollout seconds         per step
first reward            mean reward of each of the first five steps
"""

import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from megatron_mimo.config.errors import UserError
from megatron_mimo.platform.files import write_json
from megatron_mimo.record.rows import METRICS, VALIDATION_PROBLEMS, read_rows

FIRST_STEPS = 5
Outcomes = dict[str, dict[str, float]]


def run(folder: Path, output: Path) -> None:
    """Read the records and write the outcomes; raises UserError where the run has not been measured at both ends."""
    validations = [row["problems"] for row in read_rows(folder / VALIDATION_PROBLEMS)]
    steps = [row for row in read_rows(folder / METRICS) if row["kind"] == "step"]
    if len(validations) < 2 or not steps:
        raise UserError(f"{folder} has no validation before and after its steps")
    found = {f"start/{kind}": solved for kind, solved in by_kind(validations[0]).items()}
    found |= {f"end/{kind}": solved for kind, solved in by_kind(validations[-1]).items()}
    write_json(output, {"precision": precision(folder), "outcomes": found | of_steps(steps)})


def precision(folder: Path) -> str:
    """The number format that the run resolved to."""
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["precision"]["dtype"]


def by_kind(domains: dict[str, dict[str, float]]) -> Outcomes:
    """Domain -> problem -> share solved, by kind; `all` has every problem."""
    found: Outcomes = defaultdict(dict)
    for domain, problems in domains.items():
        found[domain.split("/")[0]] |= problems
        found["all"] |= problems
    return dict(found)


def of_steps(steps: list[dict[str, Any]]) -> Outcomes:
    """What the steps say."""
    last = steps[-max(1, len(steps) // 4) :]
    norms = [math.log(max(step["trainer"]["grad_norm"], 1e-9)) for step in steps]
    trained = sum(step["outcomes"].get("selected", 0) for step in steps)
    generated = sum(step["generated_tokens"] for step in steps)
    return {
        "entropy": by_step(last, lambda step: step["trainer"]["entropy"]),
        "gradient norm spread": {"run": statistics.stdev(norms) if len(norms) > 1 else 0.0},
        "tokens per group": {"run": generated / max(trained, 1)},
        "selected tokens": by_step(steps, lambda step: step["selected_tokens"]),
        "rollout seconds": by_step(steps, lambda step: step["rollout_seconds"]),
        "first reward": by_step(steps[:FIRST_STEPS], lambda step: step["reward"]),
    }


def by_step(steps: list[dict[str, Any]], value: Any) -> dict[str, float]:
    """A number per step, by the step's name."""
    return {f"step {step['step']:03d}": float(value(step)) for step in steps}
