"""The few parts of a self-contained HTML page that the pipeline's report is made of; no script, no file beside it."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1d2125; --soft: #5c656e; --rule: #e2e4e3;
  --accent: #2b66ad; --warn: #c2403f; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --card: #1c2024; --ink: #e6e8e9; --soft: #9aa4ad;
  --rule: #32383e; --accent: #7fb0ea; --warn: #f08a86; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 2.2rem 1.4rem 4rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.12rem; margin: 2.4rem 0 .8rem; }
h3 { font-size: .95rem; margin: 1.1rem 0 .4rem; } p { margin: .3rem 0; } .soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px; margin: 1.3rem 0 0; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px 14px;
  margin-bottom: 12px; overflow-x: auto; }
.tile b { display: block; font-size: 1.1rem; white-space: nowrap; }
.tile span { color: var(--soft); font-size: .82rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .28rem .7rem .28rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
tr:last-child td { border-bottom: 0; } th { color: var(--soft); font-weight: 550; }
.number { text-align: right; } td.bar { width: 22%; }
.bar i { display: block; height: .7em; margin-top: .4em; border-radius: 3px; background: var(--accent); }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px 14px; margin: 0 0 8px;
  overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 12.5px/1.5 ui-monospace, Consolas, monospace; }
summary { cursor: pointer; color: var(--accent); margin-bottom: .5rem; }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A complete HTML document around finished parts."""
    content = "\n".join(part for part in body if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>\n{content}\n</main></body></html>\n"
    )


def escape(value: Any) -> str:
    return html.escape(str(value))


def section(title: str, *parts: str, note: str = "") -> str:
    """A headed section; nothing at all when every part is empty."""
    content = "\n".join(part for part in parts if part)
    explanation = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{explanation}\n{content}</section>" if content else ""


def tiles(values: Mapping[str, str]) -> str:
    """Key figures, large."""
    items = [f'<div class="card tile"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for k, v in values.items()]
    return f'<div class="tiles">{"".join(items)}</div>'


def table(rows: Sequence[Mapping[str, Any]], share: str = "") -> str:
    """Rows of named cells; numbers to the right, the column `share` (0 to 1) as a bar."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    head = "".join(f"<th{_class(rows, column)}>{escape(column if column != share else '')}</th>" for column in columns)
    lines = ["".join(_cell(row.get(column, ""), column, share, rows) for column in columns) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="card"><table><tr>{head}</tr>{body}</table></div>'


def details(title: str, content: str) -> str:
    """A part that opens on a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _class(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    numeric = all(isinstance(row.get(column) or 0, int | float) for row in rows)
    return " class=number" if numeric else ""


def _cell(value: Any, column: str, share: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if column == share:
        return f'<td class="bar"><i style="width:{100 * min(max(float(value or 0), 0.0), 1.0):.1f}%"></i></td>'
    return f"<td{_class(rows, column)}>{escape(_in_words(value))}</td>"


def _in_words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
