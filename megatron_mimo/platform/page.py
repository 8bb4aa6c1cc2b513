"""The parts of a self-contained HTML page: no script, no file and no network beside it."""

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NUMBER = re.compile(r"-|-?[\d.,]+(e[-+]?\d+)?( ?[KMBT%])?")

STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --ink: #1d2125; --ink-soft: #5c656e; --rule: #e2e4e3; --mark: #b4babd;
  --accent: #2b66ad; --good: #1d7350; --bad: #b03534;
  --series-1: #2b66ad; --series-2: #cf6a1c; --series-3: #23855f; --series-4: #8656b3;
  --series-5: #c2403f; --series-6: #1c8a99; --series-7: #8a6a2f; --series-8: #77808a; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15181b; --card: #1c2024; --ink: #e6e8e9; --ink-soft: #9aa4ad; --rule: #32383e; --mark: #59626a;
  --accent: #7fb0ea; --good: #63c79c; --bad: #f08a86;
  --series-1: #7fb0ea; --series-2: #f0a060; --series-3: #63c79c; --series-4: #c09be6;
  --series-5: #f08a86; --series-6: #6ccbd8; --series-7: #d3b274; --series-8: #a9b2bb; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 2.2rem 1.4rem 4rem; }
h1 { font-size: 1.7rem; font-weight: 650; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.12rem; font-weight: 650; margin: 2.4rem 0 .8rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 1.1rem 0 .4rem; }
p { margin: .3rem 0; max-width: 90ch; } section > p { margin: -.5rem 0 .6rem; } .soft { color: var(--ink-soft); }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 14px;
  align-items: start; }
.grid.narrow { grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px 14px; min-width: 0; }
.card:has(th:nth-child(7)) { grid-column: 1 / -1; }
.card > h3 { margin-top: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px; margin: 1.3rem 0 0; }
.tile b { display: block; font-size: 1.1rem; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.tiles.explained { grid-template-columns: repeat(auto-fit, minmax(min(100%, 210px), 1fr)); }
.tile span { color: var(--ink-soft); font-size: .82rem; }
.bar { height: 5px; border-radius: 3px; background: var(--rule); margin: .9rem 0 0; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--accent); }
svg { display: block; width: 100%; height: auto; }
figure.chart { margin: 0; overflow-x: auto; } figure.chart svg { min-width: 360px; } .wide svg { min-width: 720px; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; color: var(--ink-soft); font-size: .82rem; }
.legend span { overflow-wrap: anywhere; } .legend i { display: inline-block; width: 1.2em; border-top: 2px solid;
  vertical-align: middle; margin-right: .4em; } .legend i.dashed { border-top-style: dashed; }
svg text { font-family: inherit !important; }
/* A shadow at an edge where there is more to see; covers that move with the content hide it at the end. */
.scroll { overflow-x: auto; background:
  linear-gradient(90deg, var(--card) 40%, transparent) 0 0 / 36px 100% no-repeat local,
  linear-gradient(270deg, var(--card) 40%, transparent) 100% 0 / 36px 100% no-repeat local,
  linear-gradient(90deg, var(--rule), transparent) 0 0 / 14px 100% no-repeat scroll,
  linear-gradient(270deg, var(--rule), transparent) 100% 0 / 14px 100% no-repeat scroll; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .28rem .7rem .28rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
tr:last-child td, tr:last-child th { border-bottom: 0; }
table.pairs th { width: 38%; }
th { color: var(--ink-soft); font-weight: 550; vertical-align: bottom; }
td.number, th.number { text-align: right; white-space: nowrap; padding-right: 1.2rem; }
td.best { font-weight: 700; color: var(--good); }
td.best::after { content: " \\2605"; font-size: .7em; vertical-align: .35em; }
td.good { color: var(--good); } td.bad { color: var(--bad); }
[title] { cursor: help; } th[title] { text-decoration: underline dotted; text-underline-offset: 3px; }
.tile small { display: block; color: var(--ink-soft); font-size: .76rem; line-height: 1.35; margin-top: .25rem; }
.sample { font: 12.5px/1.55 ui-monospace, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  margin: 0 0 .9rem; }
.sample i { font-style: normal; color: var(--ink-soft); } .sample b { font-weight: 600; color: var(--accent); }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px 14px; margin: 0;
  overflow-x: auto; font: 12.5px/1.5 ui-monospace, Consolas, monospace; }
summary { cursor: pointer; color: var(--accent); margin-bottom: .5rem; }
@media print { .card, pre { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Cell:
    """A finished cell of a table."""

    text: str
    kind: str = ""
    """`best` of its column, `good`, or `bad`."""


def page(title: str, body: Sequence[str], style: str = "") -> str:
    """A complete HTML document around finished parts; `style` adds rules of this page to those of all."""
    content = "\n".join(part for part in body if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{style}</style></head>\n<body><main>\n{content}\n</main></body></html>\n"
    )


def escape(value: Any) -> str:
    return html.escape(str(value))


def section(title: str, *parts: str, note: str = "") -> str:
    """A headed section; nothing at all when every part is empty."""
    content = "\n".join(part for part in parts if part)
    explanation = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{explanation}\n{content}</section>" if content else ""


def cards(*contents: str, narrow: bool = False) -> str:
    """Finished parts side by side, two a row or three where `narrow`; one below the other in a small window."""
    filled = [f'<div class="card">{content}</div>' for content in contents if content]
    return f'<div class="grid{" narrow" if narrow else ""}">{"".join(filled)}</div>' if filled else ""


def tiles(values: Mapping[str, str], notes: Mapping[str, str] | None = None) -> str:
    """Key figures, large; `notes` explain them by name, a line each."""
    explained = {name: f"<small>{escape(note)}</small>" for name, note in (notes or {}).items()}
    items = [
        f'<div class="card tile"><b>{escape(value)}</b><span>{escape(name)}</span>{explained.get(name, "")}</div>'
        for name, value in values.items()
    ]
    return f'<div class="tiles{" explained" if notes else ""}">{"".join(items)}</div>'


def progress_bar(share: float) -> str:
    """`share` between 0 and 1."""
    return f'<div class="bar"><i style="width:{100 * min(max(share, 0.0), 1.0):.2f}%"></i></div>'


def percent(share: float | None, decimals: int = 1) -> str:
    """A share between 0 and 1 as a percentage; "-" where there is none."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.{decimals}f} %"


def mark_best(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], decimals: int) -> list[dict[str, Any]]:
    """The rows with the numbers of `columns` formatted, and the lowest of each column marked."""
    best = {column: min((row[column] for row in rows if column in row), default=None) for column in columns}
    return [
        {
            name: Cell(f"{value:.{decimals}f}", "best" if value == best[name] else "") if name in best else value
            for name, value in row.items()
        }
        for row in rows
    ]


def table(rows: Sequence[Mapping[str, Any]], share: str | None = None, notes: Mapping[str, str] | None = None) -> str:
    """Rows of named cells; the columns are the names in order of first use, `share` (0 to 1) is drawn as a bar.

    `notes` explain columns by name, where the mouse rests on their heads.
    """
    columns = [name for name in dict.fromkeys(column for row in rows for column in row) if name != share]
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    # Text goes to the left, a column of nothing but numbers to the right.
    right = [all(NUMBER.fullmatch(line[index].text) for line in cells) for index in range(len(columns))]
    bars = [f"<td>{progress_bar(float(row.get(share) or 0))}</td>" if share else "" for row in rows]
    titles = [(notes or {}).get(column, "") for column in columns]
    names = [Cell(label(column)) for column in columns]
    head = _cells("th", names, right, titles) + ("<th></th>" if share else "")
    body = "".join(f"<tr>{_cells('td', line, right)}{bar}</tr>" for line, bar in zip(cells, bars, strict=True))
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>' if rows else ""


def details(title: str, content: str) -> str:
    """A part that opens on a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def filtered(items: Sequence[str], kinds: Mapping[str, str], name: str = "shown") -> str:
    """Finished parts with buttons that show those of one class alone (`kinds`: class -> the button's words).

    Without a script: radio buttons and rules of style that hide what has not the class. `name` is the list's own on
    its page.
    """
    name = "".join(sign if sign.isalnum() else "-" for sign in name)
    buttons = {"": "all", **kinds}
    choices = [
        f'<input type="radio" name="{name}" id="{name}-{kind}"{"" if kind else " checked"}>'
        f'<label for="{name}-{kind}">{escape(words)}</label> '
        for kind, words in buttons.items()
    ]
    rules = "".join(f"#{name}-{kind}:checked~.items>:not(.{kind}){{display:none}}" for kind in kinds)
    return f'<style>{rules}</style>{"".join(choices)}<div class="items">{"".join(items)}</div>'


def _cell(value: Any) -> Cell:
    return value if isinstance(value, Cell) else Cell(format_value(value))


def _cells(tag: str, cells: Sequence[Cell], right: Sequence[bool], titles: Sequence[str] = ()) -> str:
    written = []
    for index, cell in enumerate(cells):
        classes = " ".join(filter(None, ("number" if right[index] else "", cell.kind)))
        title = f' title="{escape(titles[index])}"' if titles and titles[index] else ""
        written.append(f"<{tag}{_class(classes)}{title}>{escape(cell.text)}</{tag}>")
    return "".join(written)


def _class(names: str) -> str:
    return "" if not names else f' class="{names}"' if " " in names else f" class={names}"


def text_sample(prompt: str, continuation: str) -> str:
    """A text and what a model made of it, told apart by colour."""
    return f'<div class="sample"><i>{escape(prompt)}</i><b>{escape(continuation)}</b></div>'


def pairs(values: Mapping[str, Any]) -> str:
    """A two-column table of names and values."""
    lines = [
        f"<tr><th>{escape(label(key))}</th><td>{escape(format_value(value))}</td></tr>" for key, value in values.items()
    ]
    return f'<div class="scroll"><table class="pairs">{"".join(lines)}</table></div>' if lines else ""


def label(name: str) -> str:
    """A field's name as a heading, which may break between its words."""
    return name.replace("_", " ")


def format_value(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.4e}"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(format_value(item) for item in value) if isinstance(value, list | tuple) else str(value)


def nested(values: Any, level: int = 3) -> str:
    """Any tree of JSON values as tables: scalars in pairs, flat mappings as rows, the rest under headings."""
    if isinstance(values, list) and values and all(isinstance(item, dict) for item in values):
        return table(values)
    if not isinstance(values, dict):
        return f"<p>{escape(format_value(values))}</p>"
    if len(values) > 1 and all(isinstance(value, dict) and value and _is_flat(value) for value in values.values()):
        return table([{"": name} | value for name, value in values.items()])
    parts = [pairs({name: value for name, value in values.items() if _is_scalar(value)})]
    parts += [titled(name, nested(value, level + 1), level) for name, value in values.items() if not _is_scalar(value)]
    return "".join(parts)


def titled(title: str, content: str, level: int = 3) -> str:
    """A small heading over a finished part."""
    return f"<h{min(level, 6)}>{escape(title)}</h{min(level, 6)}>{content}"


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, dict) and not (
        isinstance(value, list) and any(isinstance(item, dict) for item in value)
    )


def _is_flat(value: dict[str, Any]) -> bool:
    return all(_is_scalar(item) for item in value.values())
