"""`megatron-mimo extract`: the main text of one page, what the page says of itself, and why each part stayed or went.

megatron-mimo extract page.html                       # Markdown
megatron-mimo extract page.html --json                # all fields of an Extraction
megatron-mimo extract page.html --why                 # every block with the verdict and the rule
megatron-mimo extract page.html --why --html why.html # the same as a page: kept and removed parts in their order
megatron-mimo extract crawl.warc.gz --url URL --why   # a page out of an archive
megatron-mimo extract paper.pdf                       # the text of a PDF
"""

import argparse
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.data.encoding import decode
from megatron_mimo.data.extract.page import Options, Page, Part, explain, extract
from megatron_mimo.platform import page as html_page

_ARCHIVE = re.compile(r"\.(?:warc|arc)(?:\.(?:gz|zst))?$", re.IGNORECASE)
_LINE_CHARACTERS = 100
_STYLE = """<style>
.part { border-left: 4px solid var(--series-3); padding: .2rem .8rem; margin: .25rem 0; white-space: pre-wrap; }
.part.removed { border-color: var(--series-5); color: var(--ink-soft); text-decoration: line-through; }
.part i { display: block; font-size: .75rem; color: var(--ink-soft); text-decoration: none; }
</style>"""


def read_page(path: Path, url: str) -> tuple[str, str]:
    """(HTML, address) of a file, or of the page at `url` in an archive; raises UserError where there is none."""
    if not path.is_file():
        raise UserError(f"{path} is no file")
    if not _ARCHIVE.search(path.name):
        return decode(path.read_bytes()), url
    from megatron_mimo.data.pipeline.readers.warc import WarcReader
    from megatron_mimo.data.pipeline.step import Task

    reader, seen = WarcReader(files=[str(path)], pdf=False, text=False), []
    for document in reader.read(reader.list(), Task()):
        if document.url == url or not url:
            return document.text, document.url
        seen.append(document.url)
    shown = "\n  ".join(seen[:10])
    raise UserError(f"{path} holds no page {url}; it holds {len(seen)}, the first are:\n  {shown}")


def is_pdf(path: Path) -> bool:
    """Whether the file is a PDF, by its beginning."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"%PDF-" in file.read(1024)


def pdf_text(path: Path, is_page_wanted: bool) -> str:
    """The text of a PDF; raises UserError where it gives none, or where what only a page has is asked for."""
    if is_page_wanted:
        raise UserError(f"{path} is a PDF: --why and --json are for web pages")
    from megatron_mimo.data.extract.pdf import extract_pdf

    return extract_pdf(path.read_bytes())


def why_text(page: Page) -> str:
    """A line a part: kept or not, how sure, the rule, the element, how the text begins."""
    lines = []
    for part in page.parts or []:
        sign = "+" if part.is_kept else "-"
        logit = "     " if part.logit is None else f"{part.logit:+5.1f}"
        lines.append(f"{sign} {logit}  {part.reason:28} <{part.tag}> {part.text[:_LINE_CHARACTERS]}")
    return "\n".join(lines)


def why_html(page: Page, url: str) -> str:
    """A page that shows the parts in their order."""
    parts = page.parts or []
    kept = [part for part in parts if part.is_kept]
    characters = sum(len(part.text) for part in kept), sum(len(part.text) for part in parts)
    tiles = {
        "kind": page.kind, "parts kept": f"{len(kept)} of {len(parts)}",
        "characters kept": f"{characters[0]} of {characters[1]}",
    }  # fmt: skip
    return html_page.page(
        f"Why: {page.title or page.head.title or url or 'a page'}",
        [
            f"<h1>{html_page.escape(page.title or page.head.title or url)}</h1>",
            html_page.tiles(tiles), _STYLE,
            html_page.section("Parts in the page's order", "\n".join(map(_part_html, parts))),
            html_page.section("The text", f"<pre>{html_page.escape(page.text)}</pre>"),
        ],
    )  # fmt: skip


def _part_html(part: Part) -> str:
    name = "part" if part.is_kept else "part removed"
    sure = "" if part.logit is None else f", {part.logit:+.1f}"
    rule = html_page.escape(f"<{part.tag}> {part.reason}{sure}")
    return f'<div class="{name}"><i>{rule}</i>{html_page.escape(part.text)}</div>'


def main(argv: list[str] | None = None) -> int:
    """Run the command; 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="an HTML or PDF file, or a WARC or ARC file")
    parser.add_argument(
        "--url", default="", help="the page's address; in an archive it chooses the page (default: first)"
    )
    parser.add_argument("--favor", choices=("precision", "balanced", "recall"), default="balanced")
    parser.add_argument(
        "--comments",
        choices=("keep", "drop"),
        help="what readers wrote below an article (default: kept under a short text, where it is most of the page)",
    )
    parser.add_argument(
        "--headline",
        choices=("keep", "drop"),
        help="the title as a heading above the text (default: kept where the page does not declare itself an article)",
    )
    parser.add_argument("--json", action="store_true", help="print text, title, author, date, language, links, kind")
    parser.add_argument("--why", action="store_true", help="print every block with its verdict and the rule behind it")
    parser.add_argument("--html", type=Path, help="with --why: write it as a page")
    arguments = parser.parse_args(argv)
    try:
        if is_pdf(arguments.file):
            print(pdf_text(arguments.file, arguments.why or arguments.json))
            return 0
        html, url = read_page(arguments.file, arguments.url)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    comments = None if arguments.comments is None else arguments.comments == "keep"
    headline = None if arguments.headline is None else arguments.headline == "keep"
    if not arguments.why:
        extraction = extract(html, url, favor=arguments.favor, comments=comments, headline=headline)
        print(json.dumps(asdict(extraction), ensure_ascii=False, indent=1) if arguments.json else extraction.text)
        return 0
    page = explain(html, Options(arguments.favor, comments, headline))
    if arguments.html is None:
        print(why_text(page))
    else:
        arguments.html.write_text(why_html(page, url), encoding="utf-8")
        print(f"wrote {arguments.html}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
