"""The results of a study: claims/results/NAME.jsonl, a line per run, appended when the run has ended.

Nothing is dropped: every arm and seed that was run has its line. A line carries the fingerprint of what was run, so
that results of another version of the study are never mixed with those of the present one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from megatron_mimo.config.errors import UserError
from megatron_mimo.config.load import from_tree

Outcomes = Mapping[str, Mapping[str, float]]
"""Outcome -> problem or document -> its number."""
DIGITS = 5


@dataclass(frozen=True)
class StudyRun:
    """One arm with one seed."""

    arm: str
    seed: int
    fingerprint: str
    core_seconds: float
    """CPU time of all its processes."""
    cpu: str
    precision: str
    commit: str
    """Of the checkout that ran it; with "+changes" where files differed from it."""
    outcomes: dict
    """Outcome -> problem -> number."""


def append_run(path: Path, run: StudyRun) -> None:
    """Add a line; raises UserError where the file cannot be written."""
    rounded = {
        name: {key: round(value, DIGITS) for key, value in found.items()} for name, found in run.outcomes.items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(run) | {"outcomes": rounded}) + "\n")
    except OSError as error:
        raise UserError(f"cannot write the results {path}: {error.strerror}") from error


def read_runs(path: Path) -> list[StudyRun]:
    """All lines; raises UserError naming a damaged one. A study without results has none."""
    if not path.is_file():
        return []
    runs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            runs.append(from_tree(StudyRun, json.loads(line), f"{path}, line {number}"))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is damaged ({error}): remove it and run the study again") from error
    return runs


def current(runs: Sequence[StudyRun], fingerprint: str) -> dict[tuple[str, int], StudyRun]:
    """(arm, seed) -> its run of this version of the study; of two the first, so that nobody chooses."""
    found: dict[tuple[str, int], StudyRun] = {}
    for run in runs:
        if run.fingerprint == fingerprint:
            found.setdefault((run.arm, run.seed), run)
    return found


def seeds_of(runs: Mapping[tuple[str, int], StudyRun], arms: Sequence[str]) -> list[int]:
    """The seeds that all these arms were run with."""
    by_arm = [{seed for name, seed in runs if name == arm} for arm in arms]
    return sorted(set.intersection(*by_arm)) if by_arm else []


def table_of(
    runs: Mapping[tuple[str, int], StudyRun], arm: str, seeds: Sequence[int], outcome: str
) -> list[list[float]]:
    """`[seeds][problems]` of one arm, the problems by name. Raises UserError where a run has not the same problems."""
    rows = [runs[arm, seed].outcomes.get(outcome) for seed in seeds]
    names = sorted(rows[0] or {})
    for seed, row in zip(seeds, rows, strict=True):
        if not row or sorted(row) != names:
            raise UserError(f"{arm}, seed {seed}: {outcome} was measured on other problems than in the other runs")
    return [[row[name] for name in names] for row in rows if row]
