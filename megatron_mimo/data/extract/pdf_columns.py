"""Columns of a PDF page: which runs of text are read one below the other.

A gutter is an x that few runs cross: above, between and below those, the runs to its left and to its right fill a
column each. Both sides may hold further gutters. A table looks alike, but its cells do not fill their columns: it is
read row by row. Where rows break at one x again and again, and the sides are neither, the order is in doubt.
"""

from collections.abc import Iterator
from itertools import pairwise

from megatron_mimo.data.extract.pdf_glyphs import GUTTER_EM, Run, cut_run

MIN_COLUMN_RUNS = 4
MOST_GUTTERS_TRIED = 3
MOST_CUTS = 2
"""Cuts of a page inside each other that are looked for: two give four columns."""
FILLED_SHARE = 0.6
"""Most text of a column stands in lines of at least this share of its width; a table's cells are shorter."""
MIN_COLUMN_WIDTH_EM = 8.0
KNOWN_SHARE = 0.4
"""With so many of its runs in columns, a page goes on in columns beside a figure too."""
DOUBTFUL_SHARE = 0.5


def read_columns(runs: list[Run]) -> tuple[list[list[Run]], bool]:
    """The runs of each column, in reading order, and whether that order is in doubt (then: one run each, as given)."""
    columns = list(_columns(runs, MOST_CUTS))
    if len(columns) <= 1 and _is_doubtful(runs):
        return [[run] for run in runs], True
    return columns, False


def _columns(runs: list[Run], cuts: int) -> Iterator[list[Run]]:
    """Bands between runs that cross the gutter, from top to bottom, and in each the columns from left to right."""
    gutter, is_known = _find_gutter(runs, cuts)
    if gutter is None:
        if runs:
            yield runs
        return
    for band in _bands(runs, gutter):
        sides = _sides(band, gutter)
        if all(sides) and (_are_columns(sides, cuts) or (is_known and not _is_table(sides))):
            for side in sides:
                yield from _columns(side, cuts - 1)
        else:
            yield band


def _bands(runs: list[Run], gutter: float) -> Iterator[list[Run]]:
    """Runs from top to bottom, cut where runs cross the gutter; those stand in bands of their own."""
    band: list[Run] = []
    was_crossing = False
    for run in sorted(runs, key=lambda run: -run.baseline):
        is_crossing = _crosses(run, gutter)
        if band and is_crossing != was_crossing:
            yield band
            band = []
        band.append(run)
        was_crossing = is_crossing
    if band:
        yield band


def _sides(band: list[Run], gutter: float) -> tuple[list[Run], list[Run]]:
    """The runs left and right of the gutter; two empty lists where the band crosses it."""
    if _crosses(band[0], gutter):
        return [], []
    parts = [part for run in band for part in (cut_run(run, gutter) if run.left < gutter < run.right else [run])]
    return [part for part in parts if part.left < gutter], [part for part in parts if part.left >= gutter]


def _find_gutter(runs: list[Run], cuts: int) -> tuple[float | None, bool]:
    """The x beside which most runs are lines of columns, and whether those are a fair share; None without any."""
    if len(runs) < 2 * MIN_COLUMN_RUNS or not cuts:
        return None, False
    held = {x: _runs_in_columns(runs, x, cuts) for x in _least_crossed(runs)}
    best = max(held, key=lambda x: held[x], default=None)
    if best is None or not held[best]:
        return None, False
    return best, held[best] > KNOWN_SHARE * len(runs)


def _runs_in_columns(runs: list[Run], gutter: float, cuts: int) -> int:
    """How many runs a cut at `gutter` leaves in columns."""
    bands = (band for band in _bands(runs, gutter) if len(band) >= MIN_COLUMN_RUNS)
    return sum(len(band) for band in bands if _are_columns(_sides(band, gutter), cuts))


def _are_columns(sides: tuple[list[Run], list[Run]], cuts: int) -> bool:
    """Whether each side holds lines of one column, or of columns beside each other."""
    return all(side and (_fills(side) or _find_gutter(side, cuts - 1)[0] is not None) for side in sides)


def _fills(side: list[Run]) -> bool:
    """Whether the runs are lines of a column: most of the text stands in lines nearly as wide as it."""
    width = max(run.right for run in side) - min(run.left for run in side)
    wide = [len(run.glyphs) for run in side if run.right - run.left > FILLED_SHARE * width]
    text = sum(len(run.glyphs) for run in side)
    return len(wide) >= MIN_COLUMN_RUNS and sum(wide) > 0.5 * text and width > MIN_COLUMN_WIDTH_EM * side[0].size


def _is_table(sides: tuple[list[Run], list[Run]]) -> bool:
    """Whether both sides are short pieces, beside each other on the same lines."""
    baselines = [{round(run.baseline) for run in side} for side in sides]
    shared = len(baselines[0] & baselines[1])
    are_short = all(_usual_width(side) < MIN_COLUMN_WIDTH_EM * side[0].size for side in sides)
    return are_short and shared >= MIN_COLUMN_RUNS and shared > 0.7 * min(map(len, baselines))


def _usual_width(side: list[Run]) -> float:
    widths = sorted(run.right - run.left for run in side)
    return widths[len(widths) // 2]


def _least_crossed(runs: list[Run]) -> list[float]:
    """Places crossed by fewer runs than their neighbourhood: the middles of the least crossed spans, wide ones only."""
    spans = _crossings(runs)
    size = sorted(run.size for run in runs)[len(runs) // 2]
    wide = [
        (crossing, left - right, (left + right) / 2)
        for place, (left, right, crossing) in enumerate(spans)
        if 0 < place < len(spans) - 1
        and right - left > GUTTER_EM * size
        and crossing < min(spans[place - 1][2], spans[place + 1][2])
    ]
    return [middle for _, _, middle in sorted(wide)[:MOST_GUTTERS_TRIED]]


def _crossings(runs: list[Run]) -> list[tuple[float, float, int]]:
    """(left, right, number of runs with text there) from edge to edge of the page's text."""
    changes: dict[float, int] = {}
    for run in runs:
        for left, right in run.solid_parts:
            changes[round(left)] = changes.get(round(left), 0) + 1
            changes[round(right)] = changes.get(round(right), 0) - 1
    spans, crossing = [], 0
    for x, following in pairwise(sorted(changes)):
        crossing += changes[x]
        spans.append((float(x), float(following), crossing))
    return spans


def _crosses(run: Run, x: float) -> bool:
    return run.left < x < run.right and any(left < x < right for left, right in run.solid_parts)


def _is_doubtful(runs: list[Run]) -> bool:
    """Whether most lines break at one x, with text on both sides that is wider than a table's cells."""
    if len(runs) < 4 * MIN_COLUMN_RUNS:
        return False
    for gutter in _least_crossed(runs):
        sides = [[run for run in runs if run.right <= gutter], [run for run in runs if run.left >= gutter]]
        are_long = all(len(side) >= MIN_COLUMN_RUNS and _has_long_lines(side) for side in sides)
        if are_long and sum(map(len, sides)) > DOUBTFUL_SHARE * len(runs):
            return True
    return False


def _has_long_lines(side: list[Run]) -> bool:
    return _usual_width(side) > MIN_COLUMN_WIDTH_EM * side[0].size
