"""The timeline of a rollout step as an inline SVG: one lane per engine and one for the rewards."""

from collections import defaultdict
from typing import Any

from megatron_mimo.platform.page import escape

COLOURS = {
    "selected": "var(--series-1)",
    "surplus": "var(--series-2)",
    "filtered": "var(--series-8)",
    "aborted": "var(--series-5)",
    "faulted": "var(--series-7)",
}
WIDTH, LABEL_WIDTH, ROW_HEIGHT, LANE_GAP, LEGEND_HEIGHT = 1000.0, 90.0, 5.0, 10.0, 22.0
Row = list[dict[str, Any]]


def gantt(spans: list[dict[str, Any]], seconds: float) -> str:
    """spans: `kind`, `where`, `start` and `end` in seconds, `outcome`. Overlapping spans get rows of their own."""
    lanes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for span in spans:
        lanes["rewards" if span["kind"] == "reward" else span["where"]].append(span)
    scale = (WIDTH - LABEL_WIDTH) / max(seconds, 1e-9)
    parts, top = [_legend()], LEGEND_HEIGHT
    for name in sorted(lanes, key=lambda lane: (lane == "rewards", lane)):
        rows = stack(lanes[name])
        height = ROW_HEIGHT * len(rows)
        parts.append(
            f'<text x="0" y="{top + min(height, 10):.1f}" font-size="11" fill="var(--ink)">{escape(name)}</text>'
        )
        for index, row in enumerate(rows):
            parts += [_bar(span, scale, top + ROW_HEIGHT * index) for span in row]
        top += height + LANE_GAP
    parts.append(_axis(top, seconds, scale))
    svg = f'<svg viewBox="0 0 {WIDTH:.0f} {top + 18:.0f}" role="img">{"".join(parts)}</svg>'
    return f'<div class="scroll wide">{svg}</div>'


def stack(spans: list[dict[str, Any]]) -> list[Row]:
    """Rows in which no two spans overlap, filled greedily by start."""
    rows: list[Row] = []
    for span in sorted(spans, key=lambda span: (span["start"], span["end"])):
        row = next((row for row in rows if row[-1]["end"] <= span["start"]), None)
        if row is None:
            rows.append([span])
        else:
            row.append(span)
    return rows


def _bar(span: dict[str, Any], scale: float, y: float) -> str:
    x, width = LABEL_WIDTH + span["start"] * scale, max(0.4, (span["end"] - span["start"]) * scale)
    colour = COLOURS.get(span["outcome"], "var(--mark)")
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{ROW_HEIGHT - 1:.1f}" fill="{colour}"/>'


def _legend() -> str:
    parts = []
    for index, (outcome, colour) in enumerate(COLOURS.items()):
        x = LABEL_WIDTH + 90 * index
        parts.append(f'<rect x="{x:.0f}" y="2" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="11" font-size="11" fill="var(--ink-soft)">{outcome}</text>')
    return "".join(parts)


def _axis(y: float, seconds: float, scale: float) -> str:
    parts = []
    for tick in range(6):
        at = seconds * tick / 5
        x = LABEL_WIDTH + at * scale
        anchor = "end" if tick == 5 else "start" if tick == 0 else "middle"
        text = f'<text x="{x:.1f}" y="{y + 10:.1f}" font-size="10" fill="var(--ink-soft)" text-anchor="{anchor}">'
        parts.append(f"{text}{at:.1f} s</text>")
    return "".join(parts)
