"""Line charts as inline SVG. matplotlib lays them out; colours are CSS variables, so the page decides light or dark.

The legend is text of the page below the chart: it breaks into as many lines as it needs, and no name is cut.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from megatron_mimo.platform.formats import format_count
from megatron_mimo.platform.page import escape

NUM_COLOURS = 8
# Stand-ins that matplotlib draws with and `_with_css_colours` replaces by variables of the page.
INK, RULE, MARK = "#fe00f0", "#fe00f1", "#fe00f2"
SERIES = [f"#fe00{index:02x}" for index in range(1, NUM_COLOURS + 1)]
CSS_COLOURS = {INK: "var(--ink-soft)", RULE: "var(--rule)", MARK: "var(--mark)"} | {
    stand_in: f"var(--series-{index})" for index, stand_in in enumerate(SERIES, start=1)
}
POINTS_ABOVE = 16
"""Between the axes and the title, where the stages' names stand."""
FONT_POINTS = 9
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": FONT_POINTS,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "lines.linewidth": 1.5,
}


@dataclass(frozen=True)
class Series:
    """One line; `low` and `high`, where given, are the edges of a shaded band around it. All of equal length."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def line_chart(
    series: Sequence[Series],
    y_label: str,
    *,
    boundaries: Sequence[tuple[float, str]] = (),
    log_y: bool = False,
    staircase: bool = False,
    markers: bool = False,
    small: bool = False,
    x_label: str = "consumed tokens",
) -> str:
    """Draw the series over consumed tokens, or what `x_label` names: a `<figure>` with its legend.

    `boundaries` are (consumed tokens, stage name) of the stages; `staircase` draws steps between the points, `small`
    is for three charts a row. Points that are not finite leave a gap.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(3.9, 2.3) if small else (5.6, 2.9))
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for index, line in enumerate(series):
            _draw(axes, line, index, staircase, markers)
        _decorate(axes, series, y_label, log_y)
        axes.set_xlabel(x_label)
        _mark_stages(axes, boundaries)
        _make_room(figure, axes)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return f'<figure class="chart">{_with_css_colours(svg.getvalue())}{_legend(series)}</figure>'


def _legend(series: Sequence[Series]) -> str:
    """Names beside strokes of their lines; nothing for a single line, which the title names."""
    if len(series) < 2:
        return ""
    items = [
        f'<span><i class="{"solid" if index < NUM_COLOURS else "dashed"}"'
        f' style="border-color:var(--series-{index % NUM_COLOURS + 1})"></i>{escape(line.name)}</span>'
        for index, line in enumerate(series)
    ]
    return f'<figcaption class="legend">{"".join(items)}</figcaption>'


def _draw(axes: Axes, line: Series, index: int, staircase: bool, markers: bool) -> None:
    colour = SERIES[index % NUM_COLOURS]
    axes.plot(
        line.x,
        line.y,
        color=colour,
        linestyle="-" if index < NUM_COLOURS else "--",
        drawstyle="steps-pre" if staircase else "default",
        marker="o" if markers or len(line.x) == 1 else None,
        markersize=3,
    )
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)


def _decorate(axes: Axes, series: Sequence[Series], y_label: str, log_y: bool) -> None:
    largest = max((value for line in series for value in line.y if math.isfinite(value)), default=0.0)
    if log_y and largest > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    if log_y or largest >= 1e4:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: format_count(tokens)))
    axes.set_title(y_label, loc="left", fontsize=10, color=INK, pad=POINTS_ABOVE)
    axes.margins(x=0.01)


def _make_room(figure: Figure, axes: Axes) -> None:
    """Margins for the labels: matplotlib's own layout engine draws a chart twice to find them."""
    line, character = 1.2 * FONT_POINTS, 0.65 * FONT_POINTS
    labels = axes.yaxis.get_major_formatter().format_ticks(list(axes.yaxis.get_majorticklocs()))
    width, height = 72 * figure.get_size_inches()
    figure.subplots_adjust(
        left=(character * max(map(len, labels), default=0) + 10) / width,
        right=1 - 3 * character / width,
        bottom=(2 * line + 14) / height,
        top=1 - (POINTS_ABOVE + line + 5) / height,
    )


def _mark_stages(axes: Axes, boundaries: Sequence[tuple[float, str]]) -> None:
    if len(boundaries) < 2:
        return
    for tokens, name in boundaries:
        axes.axvline(tokens, color=MARK, linewidth=0.9, linestyle=(0, (3, 3)))
        place = {"xycoords": ("data", "axes fraction"), "xytext": (2, 3), "textcoords": "offset points"}
        axes.annotate(name, (tokens, 1), fontsize=7.5, color=INK, **place)


def _with_css_colours(svg: str) -> str:
    """Keep the `<svg>` element alone, sized by the page, coloured by CSS variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for stand_in, variable in CSS_COLOURS.items():
        svg = svg.replace(stand_in, variable)
    return svg
