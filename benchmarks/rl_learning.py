"""Does RL raise held-out pass@1, and which settings raise it more? Real runs, a seed and an arm at a time.

    python benchmarks/rl_learning.py                                        # the quick question: three seeds
    python benchmarks/rl_learning.py --arms reward.scheme=strict reward.scheme=soft reward.scheme=all_or_nothing \\
        -- data.train='[runs/nano/problems/train_code.jsonl]' data.valid='[runs/nano/problems/valid_code.jsonl]'

Every arm is the configuration with one more override; all arms share seeds, start and number of steps. Finished runs
are kept in the output folder and not repeated. The table gives pass@1 before the first and after the last step, by the
first word of a problem's source, and the mean over seeds with its standard error; where the engines draft
(engine.num_speculative_tokens above 0), also which share of the drafts was accepted at both ends of a run.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="examples/nano/rl.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", default=[""], help="an override each; one arm without any by default")
    parser.add_argument("--output", type=Path, default=Path("runs/nano/rl_learning"))
    parser.add_argument("overrides", nargs="*", help="for every run, after --")
    chosen = parser.parse_args()
    found: dict[str, list[list[Row]]] = defaultdict(list)
    for seed in chosen.seeds:
        for arm in chosen.arms:
            folder = chosen.output / f"{arm or 'run'}-seed{seed}".replace("/", "_")
            overrides = [*chosen.overrides, *([arm] if arm else []), f"seed={seed}", f"output_dir={folder}"]
            found[arm].append(finished_run(chosen.config, folder, overrides))
    for arm, runs in found.items():
        print(f"\n{arm or chosen.config}")
        print("\n".join(table(runs)))
    return 0


def finished_run(config: str, folder: Path, overrides: list[str]) -> list[Row]:
    """Rows of the run's metrics; the run is made, or resumed, where it has not ended."""
    marker = folder / "finished.json"
    if not marker.is_file():
        started = time.monotonic()
        command = [sys.executable, "-m", "megatron_mimo.rl", config, *overrides]
        print(f"running {' '.join(overrides)}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("a") as log:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            sys.exit(f"the run failed with exit code {done.returncode}; see {folder}/log.txt")
        marker.write_text(json.dumps({"seconds": time.monotonic() - started}))
    seconds = json.loads(marker.read_text())["seconds"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    rows[-1]["run_seconds"] = seconds
    return rows


def table(runs: list[list[Row]]) -> Iterator[str]:
    """One line per seed and one for the mean."""
    kinds = sorted({kind for rows in runs for kind in pass_rates(validations(rows)[0])})
    yield f"{'':6}" + "".join(f"{kind:>28}" for kind in kinds) + f"{'steps':>8}{'minutes':>9}"
    gains: dict[str, list[float]] = defaultdict(list)
    for number, rows in enumerate(runs, start=1):
        before, after = (pass_rates(row) for row in (validations(rows)[0], validations(rows)[-1]))
        for kind in kinds:
            gains[kind].append(after[kind] - before[kind])
        cells = "".join(f"{before[kind]:>11.1%} -> {after[kind]:.1%} {100 * gains[kind][-1]:+5.1f}" for kind in kinds)
        yield f"run {number}{cells}{rows[-1]['step']:>8}{rows[-1]['run_seconds'] / 60:>9.1f}"
    yield "gain  " + "".join(f"{with_error(gains[kind]):>28}" for kind in kinds)
    final = {kind: [pass_rates(validations(rows)[-1])[kind] for rows in runs] for kind in kinds}
    yield "final " + "".join(f"{with_error(final[kind]):>28}" for kind in kinds)
    yield from draft_lines(runs)


DRAFT_STEPS = 5
"""Steps at each end of a run whose drafts are counted together."""


def draft_lines(runs: list[list[Row]]) -> Iterator[str]:
    """Where the engines drafted: the share of accepted drafts at both ends of each run, and the mean over seeds."""
    ends: list[tuple[float, float]] = []
    for rows in runs:
        steps = [row for row in rows if row["kind"] == "step" and row.get("drafted_tokens")]
        if steps:
            ends.append((acceptance(steps[:DRAFT_STEPS]), acceptance(steps[-DRAFT_STEPS:])))
            yield f"drafts accepted, first {DRAFT_STEPS} steps {ends[-1][0]:.1%}, last {DRAFT_STEPS} {ends[-1][1]:.1%}"
    if ends:
        first, last = ([end[place] for end in ends] for place in (0, 1))
        yield f"drafts accepted, per cent, mean of runs: first {with_error(first)}, last {with_error(last)}"


def acceptance(steps: list[Row]) -> float:
    return sum(row["accepted_drafts"] for row in steps) / sum(row["drafted_tokens"] for row in steps)


def validations(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] == "validation"]


def pass_rates(validation: Row) -> dict[str, float]:
    """pass@1 by kind of problem: domains with the same first word together, weighted by their problems."""
    solved: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for domain, result in validation["domains"].items():
        total = solved[domain.split("/")[0]]
        total[0] += result["solved"] * result["groups"]
        total[1] += result["groups"]
    return {kind: passed / groups for kind, (passed, groups) in solved.items()}


def with_error(values: list[float]) -> str:
    """Mean and its standard error, in points."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{100 * statistics.mean(values):.1f} +- {100 * error:.1f}"


if __name__ == "__main__":
    sys.exit(main())
