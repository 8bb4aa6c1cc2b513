"""Differences with their intervals as a picture: a row per question, a dot per seed."""

from collections.abc import Sequence

from megatron_mimo.claims.verdicts import StudyAnswer
from megatron_mimo.platform.page import escape

WIDTH, ROW, LEFT, RIGHT, TOP = 640, 46, 20, 20, 8
COLOURS = {"agrees": "var(--good)", "disagrees": "var(--bad)", "cannot tell": "var(--ink-soft)"}


def forest(answers: Sequence[StudyAnswer]) -> str:
    """An inline SVG; each row has its own scale, since outcomes have different units. The line is no difference."""
    if not answers:
        return ""
    rows = "".join(row(answer, TOP + index * ROW) for index, answer in enumerate(answers))
    height = TOP + len(answers) * ROW
    return f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {height}" role="img">{rows}</svg></figure>'


def row(answer: StudyAnswer, top: int) -> str:
    """One question: its words, the interval, the mean, the seeds, and the margin where equality was expected."""
    low, high = answer.effect.interval
    margin = answer.question.margin
    reach = 1.1 * max(abs(low), abs(high), margin, *map(abs, answer.effect.by_seed), 1e-9)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value / reach + 1) / 2

    colour, y = COLOURS[answer.word], top + 30
    words = f"{' minus '.join(answer.question.names)}: {answer.question.outcome}"
    band = (
        f'<rect x="{x(-margin):.1f}" y="{y - 9}" width="{x(margin) - x(-margin):.1f}" height="18" fill="var(--rule)"/>'
        if margin
        else ""
    )
    dots = "".join(
        f'<circle cx="{x(value):.1f}" cy="{y}" r="3" fill="none" stroke="{colour}"/>' for value in answer.effect.by_seed
    )
    return (
        f'<text x="{LEFT}" y="{top + 12}" font-size="12" fill="var(--ink-soft)">{escape(words)}</text>{band}'
        f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{y - 11}" y2="{y + 11}" stroke="var(--mark)"/>'
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
        f'<rect x="{x(answer.effect.mean) - 4:.1f}" y="{y - 4}" width="8" height="8" fill="{colour}"/>{dots}'
        f'<text x="{x(high) + 6:.1f}" y="{y - 6}" font-size="11" fill="var(--ink-soft)">'
        f"{answer.effect.mean:+.3g}</text>"
    )
