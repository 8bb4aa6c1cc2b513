"""From the results files to verdicts, by the rule of inference.py and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.claims import inference
from megatron_mimo.claims.inference import Effect, Evidence
from megatron_mimo.claims.results import StudyRun, seeds_of, table_of
from megatron_mimo.claims.runs import runs_of
from megatron_mimo.claims.study import Study, StudyQuestion
from megatron_mimo.config.errors import UserError

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class StudyAnswer:
    """What the runs say to one question."""

    question: StudyQuestion
    effect: Effect
    levels: tuple[float, float]
    """The outcome's mean over seeds and problems, of the arm and of its baseline."""
    evidence: Evidence
    adjusted_p: float
    word: str
    """agrees, disagrees or cannot tell."""


@dataclass(frozen=True)
class Judged:
    """A study with the answers of its results, which may be none yet."""

    name: str
    study: Study
    runs: Mapping[tuple[str, int], StudyRun]
    num_stale: int
    """Lines of the results file that are of another version of the study, and are not used."""
    answers: tuple[StudyAnswer, ...]

    @property
    def word(self) -> str:
        """The verdict; before all runs are there, that they are not."""
        if self.answers:
            return inference.verdict([answer.word for answer in self.answers])
        return "runs missing" if self.runs else "not run"

    @property
    def core_hours(self) -> float:
        """CPU time of all its runs."""
        return sum(run.core_seconds for run in self.runs.values()) / SECONDS_PER_HOUR

    @property
    def seeds(self) -> list[int]:
        """Those that every arm was run with."""
        return seeds_of(self.runs, [arm.name for arm in self.study.arms])


def judge(studies: Mapping[str, Study], folder: Path) -> list[Judged]:
    """All studies with their verdicts; p-values are adjusted over the questions of all studies that have results.

    Studies with a planted fault are a family of their own: they decide about the machinery. Raises UserError for
    results that do not fit the studies.
    """
    found: list[Judged] = []
    for is_planted in (False, True):
        family = {name: study for name, study in studies.items() if study.is_planted == is_planted}
        found += judge_family(family, folder)
    return sorted(found, key=lambda judged: (judged.study.is_planted, judged.study.claim, judged.name))


def judge_family(studies: Mapping[str, Study], folder: Path) -> list[Judged]:
    """The same for studies whose p-values are adjusted together."""
    runs = {name: runs_of(study, folder / "results" / f"{name}.jsonl") for name, study in studies.items()}
    raw = {name: answers_of(study, runs[name][0]) for name, study in studies.items()}
    adjusted = iter(inference.adjusted([evidence.p_value for found in raw.values() for *_, evidence in found]))
    return [
        Judged(name, study, *runs[name], tuple(decided(*answer, next(adjusted)) for answer in raw[name]))
        for name, study in studies.items()
    ]


RawStudyAnswer = tuple[StudyQuestion, Effect, tuple[float, float], Evidence]


def answers_of(study: Study, runs: Mapping[tuple[str, int], StudyRun]) -> list[RawStudyAnswer]:
    """The effect behind every question; none at all before every arm has the study's seeds, by its stopping rule."""
    found, seeds = [], seeds_of(runs, [arm.name for arm in study.arms])
    if not set(study.seeds) <= set(seeds):
        return []
    for question in study.questions:
        arm = table_of(runs, question.arm, seeds, question.outcome)
        baseline = table_of(runs, question.baseline, seeds, question.baseline_outcome or question.outcome)
        try:
            effect = inference.effect(arm, baseline)
        except ValueError as error:
            raise UserError(f"{study.title}: {question.outcome}: {error}") from error
        levels = mean_of(arm), mean_of(baseline)
        found.append((question, effect, levels, inference.evidence(effect, question.expected, question.margin)))
    return found


def mean_of(table: Sequence[Sequence[float]]) -> float:
    """Over seeds and problems."""
    return sum(map(sum, table)) / sum(map(len, table))


def decided(
    question: StudyQuestion, effect: Effect, levels: tuple[float, float], evidence: Evidence, adjusted_p: float
) -> StudyAnswer:
    """The answer by the rule."""
    return StudyAnswer(question, effect, levels, evidence, adjusted_p, inference.answer(evidence, adjusted_p))
