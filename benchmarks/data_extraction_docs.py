"""Code blocks and inline literals of documentation pages: how many come out exactly as the page holds them.

    apt-get download postgresql-doc-15 && dpkg -x postgresql-doc-15_*.deb pg
    python benchmarks/data_extraction_docs.py pg --main div.sect1 --main div.refentry [--pages 60] [--misses]

A folder of HTML files is read (a fixed random choice of `--pages` of them; 0 for all). The reference is taken from the
main part, the first of the `--main` places that a page has, by a plain walk over the tree: the text of every `<pre>`
and of every box of class `fragment` (Doxygen), without line numbers and buttons, and of every `<code>`, `<tt>`, `<kbd>`
and `<samp>` outside of them. A block counts when the same text, but for spaces at line ends and empty lines around it,
is in a fence of its own; a literal when its text is in the output, white space aside.
"""

import argparse
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import lxml.etree as etree
from lxml import html

from megatron_mimo.data.extract import decode, extract

FENCE = re.compile(r"^(`{3,})[^\n`]*\n(.*?)^\1[ ]*$", re.M | re.S)
NO_TEXT = {"linenos", "lineno", "headerlink", "viewcode-link", "copybtn", "line-numbers", "listing_lines"}
BLOCK = "self::pre or self::div[contains(concat(' ', normalize-space(@class), ' '), ' fragment ')]"
LITERAL = "self::code or self::tt or self::kbd or self::samp"
MOST_BYTES = 2_000_000


@dataclass
class Counts:
    """Over all pages."""

    pages: int = 0
    seconds: float = 0.0
    blocks: int = 0
    exact: int = 0
    literals: int = 0
    misses: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)


def written_text(element: etree._Element) -> str:
    """The text of a block as a reader would copy it."""
    parts = [element.text or ""]
    for child in element:
        if child.tag == "br":
            parts.append("\n")
        elif isinstance(child.tag, str) and child.tag not in ("script", "style", "button"):
            if NO_TEXT.isdisjoint((child.get("class") or "").split()):
                parts.append(written_text(child))
        parts.append(child.tail or "")
    return "".join(parts)


def block_text(element: etree._Element) -> str:
    if element.tag == "pre":
        return evened(written_text(element))
    return evened("\n".join(written_text(line) for line in element.xpath(".//div[@class='line']")))


def evened(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\xa0", " ").replace("\u200b", "")
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def main_parts(page: etree._Element, places: list[str]) -> list[etree._Element]:
    for place in places:
        tag, sign, name = re.fullmatch(r"([\w-]*)([.#]?)(.*)", place).groups()  # type: ignore[union-attr]
        attribute = "@id" if sign == "#" else "normalize-space(@class)"
        condition = f"[contains(concat(' ', {attribute}, ' '), ' {name} ')]" if name else ""
        found = page.xpath(f"//{tag or '*'}{condition}")
        if found:
            return [part for part in found if not any(above in found for above in part.iterancestors())]
    return []


def is_numbers(text: str) -> bool:
    """A column of line numbers in a box of its own."""
    words = text.split()
    return len(words) > 1 and words == [str(at) for at in range(1, len(words) + 1)]


def score(name: str, data: bytes, places: list[str], counts: Counts) -> None:
    page = html.fromstring(decode(data).encode(), parser=html.HTMLParser(encoding="utf-8"))
    parts = main_parts(page, places)
    if not parts:
        return
    start = time.process_time()
    text = extract(data).text
    counts.seconds += time.process_time() - start
    counts.pages += 1
    fences = Counter(evened(match[2]) for match in FENCE.finditer(text))
    flat = "".join(text.split())
    for part in parts:
        for block in part.xpath(f".//*[{BLOCK}][not(ancestor::*[{BLOCK}])]"):
            wanted = block_text(block)
            if not wanted.strip() or is_numbers(wanted):
                continue
            counts.blocks += 1
            counts.exact += fences[wanted] > 0
            if fences[wanted] <= 0:
                counts.misses.append((name, wanted))
            fences[wanted] -= 1
        for literal in part.xpath(f".//*[{LITERAL}][not(ancestor::*[{BLOCK} or {LITERAL}])]"):
            wanted = "".join(evened("".join(literal.itertext())).split())
            counts.literals += bool(wanted)
            if wanted not in flat and wanted.replace("|", "\\|") not in flat:
                counts.lost.append((name, wanted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--main", action="append", help="TAG, TAG.CLASS or TAG#ID of the main part; several in order")
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--misses", action="store_true", help="print what is missing")
    arguments = parser.parse_args()
    files = [file for file in sorted(arguments.folder.rglob("*.htm*")) if file.is_file() and not file.is_symlink()]
    files = [file for file in files if file.stat().st_size < MOST_BYTES]
    random.Random(1).shuffle(files)
    counts = Counts()
    for file in files:
        if arguments.pages and counts.pages >= arguments.pages:
            break
        score(str(file.relative_to(arguments.folder)), file.read_bytes(), arguments.main or ["main", "body"], counts)
    rate = counts.pages / max(counts.seconds, 1e-9)
    print(
        f"{arguments.folder.name}: {counts.pages} pages, {rate:.0f} per CPU second; "
        f"code blocks {counts.exact} of {counts.blocks} exact; literals {len(counts.lost)} of {counts.literals} lost"
    )
    for kind, found in (("block", counts.misses), ("literal", counts.lost)):
        for name, wanted in found if arguments.misses else ():
            print(f"{name}: {kind}: {wanted[:200]!r}")


if __name__ == "__main__":
    main()
