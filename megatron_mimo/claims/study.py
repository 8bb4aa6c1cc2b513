"""A study: one claim of the report as an experiment, written before its runs (claims/NAME.yaml).

Arms are runs that differ in one thing. Every arm is run once per seed, by the commands of `steps`, and leaves a file of
outcomes: numbers per problem or per document, the same ones for all arms. A comparison asks how an arm differs from
another in one outcome; what the claim expects of it is part of the file, and so is the rule that decides
(megatron_mimo/claims/inference.py).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from megatron_mimo.config.errors import ConfigError, UserError
from megatron_mimo.config.load import load

Expectation = Literal["more", "less", "equal"]
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Arm:
    """A run that differs from the others of its study in one thing."""

    name: str
    text: str
    """What it is, in words."""
    settings: tuple[str, ...] = ()
    """Stand in the commands where they say {settings}: key=value overrides, or options."""


@dataclass(frozen=True)
class StudyQuestion:
    """How two arms differ in one outcome, or an arm after its training from before, and what the claim says of that."""

    text: str
    """The question in words, with the meaning of its answer."""
    outcome: str
    arm: str
    baseline: str
    expected: Expectation
    """Of `arm` beside `baseline`. `equal`: the interval of the difference lies within `margin` on both sides."""
    margin: float = 0.0
    """In units of the outcome; for `equal` alone."""
    baseline_outcome: str = ""
    """Of the baseline, where it is another one of the same problems, such as the state before RL; empty: `outcome`."""

    @property
    def names(self) -> tuple[str, str]:
        """What is compared, the arm first: their names, with the outcome where these differ."""
        if self.baseline_outcome in ("", self.outcome):
            return self.arm, self.baseline
        return f"{self.arm}'s {self.outcome}", f"{self.baseline}'s {self.baseline_outcome}"

    def __post_init__(self) -> None:
        """Raise ConfigError for a margin that decides nothing."""
        if (self.expected == "equal") != (self.margin > 0):
            raise ConfigError(
                "questions.*.margin", self.margin, "must be above 0 where `equal` is expected, and only there"
            )
        if self.arm == self.baseline and self.baseline_outcome in ("", self.outcome):
            raise ConfigError("questions.*.arm", self.arm, "must differ from its baseline, in the arm or the outcome")


@dataclass(frozen=True)
class Study:
    """An experiment about one claim."""

    claim: int
    """Its number in the list of `megatron-mimo claims`; 0 for a check of this machinery."""
    title: str
    design: str
    """What is done, for a reader who does not know the report."""
    can_say: str
    cannot_say: str
    arms: tuple[Arm, ...]
    steps: tuple[str, ...]
    """Commands of one run, in order; they name {run} and {world}, its and the shared folder, {seed} and {settings}."""
    questions: tuple[StudyQuestion, ...]
    stopping_rule: str
    budget_core_minutes: float
    """For all arms with SEEDS: what the study was planned to cost."""
    world: tuple[str, ...] = ()
    """Commands whose result in {world} all runs share; studies with the same commands share it too."""
    seeds: tuple[int, ...] = SEEDS
    units: dict = field(default_factory=dict)
    """Outcome -> what its numbers are, in words."""
    is_planted: bool = False
    """A fault is switched on in one arm: the machinery must find it. It decides about no claim."""

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be run or decided."""
        names = [arm.name for arm in self.arms]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ConfigError("arms", names, "needs two or more, of different names")
        for question in self.questions:
            for arm in (question.arm, question.baseline):
                if arm not in names:
                    raise ConfigError("questions.*.arm", arm, f"must be one of {', '.join(names)}")
        if len(set(self.seeds)) < 2:
            raise ConfigError("seeds", self.seeds, "needs two or more: one run says nothing about its own chance")
        if not self.questions or not any("{settings}" in step for step in self.steps):
            raise ConfigError(
                "steps", self.steps, "must hold {settings}, which tells the arms apart, and ask a question"
            )

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)


def read_study(path: Path) -> Study:
    """Read `claims/NAME.yaml`; raises UserError naming the file and the key."""
    return load(Study, [str(path)])


def studies_in(folder: Path) -> dict[str, Study]:
    """Name -> study of every file in the folder, by name; raises UserError where there is none."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise UserError(f"no study (*.yaml) in {folder}: run this in a checkout of the project, or name a --folder")
    return {path.stem: read_study(path) for path in paths}
