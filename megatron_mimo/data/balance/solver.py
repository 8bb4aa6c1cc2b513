"""Shares of every source in every stage: all targets and epoch limits kept, as near as possible to sampled sizes.

The preferred share of a source in a stage is its tokens times the stage's sampling factors, normalized. A linear
program minimises the relative entropy of the shares to these, in steps of 15 %: so what a target asks for is spread
over all its sources in proportion, and taken from all others in proportion.
"""

from dataclasses import dataclass

import numpy as np

from megatron_mimo.config import UserError
from megatron_mimo.data.balance.linear_program import LinearProgram
from megatron_mimo.data.balance.spec import BalanceSpec, Source, StageSpec, describe, resolve_sources, select

RATIO_STEPS = (0.0, *(1.15**power for power in range(-34, 35)))
"""Share / preferred share. Between two of them the price is the logarithm of their middle: the slope of r log r - r."""
OFF_CENTRE_PRICE = 10.0
"""Of a target's deviation within its tolerance, a unit of share: more than the ratios' logarithms ever differ."""
LEAST_SLACK = 1e-6
"""Of a share or an epoch: below it, a limit counts as kept."""


@dataclass(frozen=True)
class Slack:
    """How much a constraint would have to give, in tokens."""

    stage: str
    what: str
    tokens: float
    limit: float
    """The share or number of epochs that was asked for."""
    needed: float
    """The share or number of epochs that would do."""


@dataclass(frozen=True)
class Solution:
    """Shares before rounding, [stages, sources]."""

    shares: np.ndarray
    slacks: list[Slack]


def solve(spec: BalanceSpec) -> tuple[list[Source], np.ndarray]:
    """The sources and their shares by stage, [stages, sources]; raises UserError explaining infeasible targets."""
    sources = resolve_sources(spec)
    solution = _solve(spec, sources, give="")
    if solution is None:
        raise UserError(explain(spec, sources))
    return sources, solution.shares


def explain(spec: BalanceSpec, sources: list[Source]) -> str:
    """Which targets cannot be met, by how many tokens, and what would make them feasible."""
    lines = ["the targets cannot be met with these sources."]
    missed = _solve(spec, sources, give="targets")
    if missed is None:
        return "\n".join([*lines, *_too_few_tokens(spec, sources)])
    lines.append("Keeping the epoch limits, the nearest possible mixture misses:")
    lines += [
        f"    {s.stage}: {s.what}: asked {s.limit:.4g}, possible {s.needed:.4g}: {amount(s.tokens)} tokens"
        for s in missed.slacks
    ]
    repeated = _solve(spec, sources, give="epochs")
    if repeated is None:
        lines.append(
            "More data would not help, the targets of a stage exclude each other: ask for the possible shares."
        )
        return "\n".join(lines)
    lines.append("To make it feasible, ask for the possible shares; or, to keep the targets,")
    lines += [
        f"    give {s.what} {amount(s.tokens / s.limit)} tokens more, or max_epochs {np.ceil(s.needed * 100) / 100:g}"
        f" instead of {s.limit:g}"
        for s in repeated.slacks
    ]
    return "\n".join(lines)


def _too_few_tokens(spec: BalanceSpec, sources: list[Source]) -> list[str]:
    have = sum(source.tokens * source.max_epochs for source in sources)
    asked = sum(stage.tokens for stage in spec.stages)
    return [
        f"Even without targets: the stages take {amount(asked)} tokens; all sources with all their epochs give"
        f" {amount(have)}, less what stages exclude.",
        "Give more data, raise max_epochs, exclude less, or shorten the stages.",
    ]


def amount(tokens: float) -> str:
    """Tokens in words of three digits: 1.25T."""
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if tokens >= unit:
            return f"{tokens / unit:.3g}{letter}"
    return f"{tokens:.3g}"


def _solve(spec: BalanceSpec, sources: list[Source], give: str) -> Solution | None:
    """Solve the program; `give` ("", "targets", "epochs") is the kind of constraint that may give way, at a cost."""
    program = LinearProgram()
    shares = np.array([_stage_variables(program, stage, sources, priced=not give) for stage in spec.stages])
    scale = max(stage.tokens for stage in spec.stages)
    gives = [
        *(
            g
            for row, stage in enumerate(spec.stages)
            for g in _targets(program, stage, sources, shares[row], give, scale)
        ),
        *_epochs(program, spec, sources, shares, give, scale),
    ]
    values = program.solve()
    if values is None:
        return None
    slacks = [
        Slack(g.stage, g.what, values[g.variable] * g.unit_tokens, g.limit, g.limit + g.sign * values[g.variable])
        for g in gives
        if values[g.variable] > LEAST_SLACK
    ]
    return Solution(np.maximum(values[shares], 0.0), slacks)


def _stage_variables(program: LinearProgram, stage: StageSpec, sources: list[Source], priced: bool) -> list[int]:
    """The share of each source, as the sum of its priced steps: their variables add up to 1."""
    preferred = preferred_shares(stage, sources)
    shares = []
    for share in preferred:
        variable = program.variable(upper=1.0 if share > 0 else 0.0)
        if priced and share > 0:
            bounds = zip(RATIO_STEPS, (*RATIO_STEPS[1:], np.inf), strict=True)
            steps = [program.variable(_price(low, high), (high - low) * share) for low, high in bounds]
            program.equal([variable, *steps], [1.0, *[-1.0] * len(steps)], 0.0)
        shares.append(variable)
    program.equal(shares, [1.0] * len(shares), 1.0)
    return shares


def _price(low: float, high: float) -> float:
    middle = (low + high) / 2 if np.isfinite(high) else 2 * low
    return float(np.log(middle))


def preferred_shares(stage: StageSpec, sources: list[Source]) -> np.ndarray:
    """Sampled sizes, normalized: [sources]; 0 for what the stage excludes. Raises UserError when nothing is left."""
    sizes = np.array([source.tokens for source in sources], dtype=float)
    for sampling in stage.sampling:
        sizes[select(sources, sampling.where)] *= sampling.factor
    for where in stage.exclude:
        sizes[select(sources, where)] = 0.0
    if not sizes.any():
        raise UserError(f"stage {stage.name}: every source is excluded")
    return sizes / sizes.sum()


@dataclass(frozen=True)
class _Give:
    """A variable that loosens a constraint: in units of share or epochs, each worth `unit_tokens`."""

    variable: int
    stage: str
    what: str
    unit_tokens: float
    limit: float
    sign: int


def _targets(
    program: LinearProgram, stage: StageSpec, sources: list[Source], shares: np.ndarray, give: str, scale: float
) -> list[_Give]:
    gives: list[_Give] = []
    for target in stage.targets:
        chosen = [int(shares[number]) for number in select(sources, target.where)]
        if target.share is not None and not give:
            off = [program.variable(cost=OFF_CENTRE_PRICE) for _ in range(2)]
            program.equal([*chosen, *off], [*[1.0] * len(chosen), 1.0, -1.0], target.share)
        for sign, limit, word in ((-1, target.lowest, "at least"), (1, target.highest, "at most")):
            slack = program.variable(cost=stage.tokens / scale, upper=np.inf if give == "targets" else 0.0)
            program.at_most([*chosen, slack], [*[float(sign)] * len(chosen), -1.0], sign * limit)
            what = f"{word} {100 * limit:.4g} % of {describe(target.where)}"
            gives.append(_Give(slack, stage.name, what, stage.tokens, limit, sign))
    return gives


def _epochs(
    program: LinearProgram, spec: BalanceSpec, sources: list[Source], shares: np.ndarray, give: str, scale: float
) -> list[_Give]:
    gives: list[_Give] = []
    for number, source in enumerate(sources):
        # In epochs of the source, so that all rows are of one order of magnitude.
        factors = [stage.tokens / source.tokens for stage in spec.stages]
        slack = program.variable(cost=source.tokens / scale, upper=np.inf if give == "epochs" else 0.0)
        program.at_most([*map(int, shares[:, number]), slack], [*factors, -1.0], source.max_epochs)
        gives.append(_Give(slack, "", source.name, source.tokens, source.max_epochs, 1))
    return gives
