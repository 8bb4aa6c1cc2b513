"""Run a study: every arm with every seed, each by the commands of the study, and keep the outcomes.

A run that has ended is a line of the results file and is not repeated, nor is one that another study has made. One that
was interrupted is run again in its folder, where the commands find what they have finished. Runs take one core each;
`jobs` of them go on side by side.
"""

import hashlib
import json
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from megatron_mimo.claims.commands import execute, words
from megatron_mimo.claims.results import StudyRun, append_run, current, read_runs
from megatron_mimo.claims.study import Arm, Study
from megatron_mimo.config.errors import UserError
from megatron_mimo.config.layers import read_layers
from megatron_mimo.platform.number_format import CPUINFO, cpu_model_and_flags

OUTCOMES = "outcomes.json"
"""What the last command of a run leaves in its folder."""


@dataclass(frozen=True)
class Places:
    """The folders of a study."""

    study: Path
    """claims/NAME.yaml."""
    work: Path
    """Runs and worlds; can be removed when the results are there."""

    @property
    def name(self) -> str:
        return self.study.stem

    @property
    def results(self) -> Path:
        return self.study.parent / "results" / f"{self.name}.jsonl"

    def run(self, arm: str, seed: int, fingerprint: str) -> Path:
        return self.work / self.name / fingerprint[:8] / f"{arm}-{seed}"

    def world(self, study: Study) -> Path:
        return self.work / "worlds" / digest([*study.world, *recipes(study.world)])[:12]


def digest(texts: Sequence[str]) -> str:
    """SHA-256 of texts in their order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def recipes(commands: Sequence[str]) -> Iterator[str]:
    """The contents of the YAML files that commands name, with what those build on, as JSON."""
    for word in sorted({word for command in commands for word in shlex.split(command)}):
        if word.endswith((".yaml", ".yml")) and Path(word).is_file():
            yield json.dumps(read_layers(Path(word)).tree, sort_keys=True)


def fingerprint(study: Study, arm: Arm) -> str:
    """Of all that decides a run's outcome beside the program itself: its commands, settings and recipes."""
    return digest([*study.world, *study.steps, *arm.settings, *recipes([*study.world, *study.steps])])


def runs_of(study: Study, results: Path) -> tuple[dict[tuple[str, int], StudyRun], int]:
    """(arm, seed) -> its run of the present version, and the number of lines of other versions."""
    lines = read_runs(results)
    by_arm = [current([run for run in lines if run.arm == arm.name], fingerprint(study, arm)) for arm in study.arms]
    runs = {key: run for found in by_arm for key, run in found.items()}
    return runs, len(lines) - len(runs)


def run_study(study: Study, places: Places, seeds: Sequence[int], jobs: int, say: Callable[[str], None]) -> None:
    """Run what the results file does not have; raises UserError with the log of the first run that fails."""
    present, _ = runs_of(study, places.results)
    for found in runs_elsewhere(study, places.results, seeds, present):
        say(f"{found.arm}, seed {found.seed}: the same run has ended for another study")
        append_run(places.results, found)
        present[found.arm, found.seed] = found
    missing = [(arm, seed) for seed in seeds for arm in study.arms if (arm.name, seed) not in present]
    if not missing:
        say("every run is there already")
        return
    make_world(study, places, say)
    say(f"{len(missing)} runs to go: {', '.join(f'{arm.name}/{seed}' for arm, seed in missing)}")
    guard, started, has_failed = threading.Lock(), time.monotonic(), threading.Event()

    def one(arm: Arm, seed: int) -> None:
        if has_failed.is_set():
            return
        try:
            found = run_arm(study, places, arm, seed)
        except UserError:
            has_failed.set()
            raise
        with guard:
            append_run(places.results, found)
            past = time.monotonic() - started
            say(f"{arm.name}, seed {seed}: done ({found.core_seconds:.0f} CPU s); {past / 60:.1f} min so far")

    with ThreadPoolExecutor(jobs) as pool:
        for task in [pool.submit(one, arm, seed) for arm, seed in missing]:
            task.result()


def runs_elsewhere(
    study: Study, results: Path, seeds: Sequence[int], present: Mapping[tuple[str, int], StudyRun]
) -> Iterator[StudyRun]:
    """Runs of the same commands, settings and recipes that other studies' results hold, under this study's names."""
    others = [run for path in sorted(results.parent.glob("*.jsonl")) if path != results for run in read_runs(path)]
    for arm in study.arms:
        mark = fingerprint(study, arm)
        same = {run.seed: run for run in reversed(others) if run.fingerprint == mark and run.seed in seeds}
        yield from (replace(run, arm=arm.name) for seed, run in same.items() if (arm.name, seed) not in present)


def make_world(study: Study, places: Places, say: Callable[[str], None]) -> None:
    """The shared part, once."""
    world = places.world(study)
    marker = world / "complete"
    if study.world and not marker.is_file():
        say(f"making what the runs share, in {world}")
        world.mkdir(parents=True, exist_ok=True)
        for command in study.world:
            execute(words(command, {"world": str(world)}), world / "log.txt")
        marker.write_text("")


def run_arm(study: Study, places: Places, arm: Arm, seed: int) -> StudyRun:
    """All steps of one run."""
    mark = fingerprint(study, arm)
    folder = places.run(arm.name, seed, mark)
    folder.mkdir(parents=True, exist_ok=True)
    named = {"run": str(folder), "world": str(places.world(study)), "seed": str(seed)}
    spent = sum(execute(words(step, named, arm.settings), folder / "log.txt") for step in study.steps)
    try:
        outcomes = json.loads((folder / OUTCOMES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"the last step left no {folder / OUTCOMES}: see {folder / 'log.txt'}") from error
    return StudyRun(
        arm.name,
        seed,
        mark,
        round(spent, 2),
        cpu_model_and_flags(CPUINFO)[0],
        outcomes.pop("precision", ""),
        commit(),
        outcomes["outcomes"],
    )


def commit() -> str:
    """The checkout's commit."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return f"{git('rev-parse', '--short', 'HEAD')}{'+changes' if git('status', '--porcelain', '-uno') else ''}"
