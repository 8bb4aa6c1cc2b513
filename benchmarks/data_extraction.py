"""Quality and speed of web-page extraction on the pages of tests/pages, beside public extractors in the same run.

python benchmarks/data_extraction.py                # the table
python benchmarks/data_extraction.py --misses       # and what ours misses, by kind of page
python benchmarks/data_extraction.py --prefix heldout_  # the pages that were kept apart while the rules were written
python benchmarks/data_extraction.py --pages FOLDER # other pages with truth files

formulas, code, prose: share of what the page's truth names that is in the output. `code fenced` asks for the exact
block in a Markdown fence, `code as text` for the same lines anywhere (plain-text extractors have no fences).
leaks: share of boilerplate strings in the output; less is better. pages/s: per second of processor time, one process,
from decoded page to text, over the set repeated. slowest: the slowest page of the timed rounds, in processor time.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from sys import path

path.insert(0, str(Path(__file__).parents[1] / "tests"))

from megatron_mimo.data.extract import decode, extract_html
from support.page_scoring import MEASURES, PAGES, Page, Score, read_pages, score_page

Extractor = Callable[[str, str], str | None]
"""(html, url) -> text."""


def trafilatura_markdown() -> Extractor:
    from trafilatura import extract

    options = dict(output_format="markdown", include_formatting=True, include_tables=True)
    return lambda html, url: extract(html, url=url, **options)


def trafilatura_plain() -> Extractor:
    from trafilatura import extract

    return lambda html, url: extract(html, url=url)


def resiliparse_main_content() -> Extractor:
    from resiliparse.extract.html2text import extract_plain_text

    return lambda html, url: extract_plain_text(html, main_content=True)


def readability_text() -> Extractor:
    from lxml.html import fromstring
    from readability import Document

    return lambda html, url: fromstring(Document(html, url=url).summary()).text_content()


PEERS: dict[str, Callable[[], Extractor]] = {
    "trafilatura, markdown": trafilatura_markdown,
    "trafilatura, plain": trafilatura_plain,
    "resiliparse main_content": resiliparse_main_content,
    "readability-lxml": readability_text,
}


def available_extractors() -> dict[str, Extractor]:
    """Ours and every installed peer; a missing one is named."""
    extractors: dict[str, Extractor] = {"megatron_mimo": extract_html}
    for name, load in PEERS.items():
        try:
            extractors[name] = load()
        except ImportError as error:
            print(f"{name}: left out, not installed ({error})")
    return extractors


def run_safely(extractor: Extractor, html: str, url: str) -> str:
    """The extractor's text; an error counts as an empty one."""
    try:
        return extractor(html, url) or ""
    except Exception:
        return ""


def score_extractor(extractor: Extractor, pages: dict[Page, str], fenced: bool = True) -> dict[Page, Score]:
    """The score of each page."""
    return {page: score_page(page, run_safely(extractor, html, page.url), fenced) for page, html in pages.items()}


def total_score(scores: dict[Page, Score]) -> Score:
    """The sum over pages."""
    total = Score()
    for score in scores.values():
        total.add(score)
    return total


def measure_speed(extractor: Extractor, pages: dict[Page, str], seconds: float) -> tuple[float, float]:
    """(pages per processor second, processor seconds of the slowest page), over at least `seconds`."""
    number, spent, slowest = 0, 0.0, 0.0
    while not number or spent < seconds:
        for page, html in pages.items():
            start = time.process_time()
            run_safely(extractor, html, page.url)
            duration = time.process_time() - start
            number, spent, slowest = number + 1, spent + duration, max(slowest, duration)
    return number / spent, slowest


def print_table(extractors: dict[str, Extractor], pages: dict[Page, str], seconds: float) -> None:
    """A line for each extractor."""
    columns = ["formulas %", "code fenced %", "code as text %", "prose %", "leaks %", "pages/s", "slowest ms"]
    print(f"| {'extractor':24} | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, extractor in extractors.items():
        fenced = total_score(score_extractor(extractor, pages))
        as_text = total_score(score_extractor(extractor, pages, fenced=False))
        rate, slowest = measure_speed(extractor, pages, seconds)
        shares = [fenced.percent("formulas"), fenced.percent("code"), as_text.percent("code")]
        shares += [fenced.percent("prose"), fenced.percent("boilerplate")]
        cells = [*(f"{share:.1f}" for share in shares), f"{rate:.0f}", f"{1000 * slowest:.0f}"]
        print(f"| {name:24} | " + " | ".join(f"{c:>{len(h)}}" for c, h in zip(cells, columns, strict=True)) + " |")


def print_misses(scores: dict[Page, Score]) -> None:
    """Found and expected by kind of page, then each thing missed (for boilerplate: leaked)."""
    kinds: dict[str, dict[Page, Score]] = defaultdict(dict)
    for page, score in scores.items():
        kinds[page.kind][page] = score
    print(f"\n| {'kind':32} | " + " | ".join(MEASURES) + " |\n|---|" + "---|" * len(MEASURES))
    for kind, members in sorted(kinds.items()):
        total = total_score(members)
        cells = [f"{total.found[m]}/{total.expected[m]}" if total.expected[m] else "" for m in MEASURES]
        print(f"| {kind:32} | " + " | ".join(f"{c:>{len(m)}}" for c, m in zip(cells, MEASURES, strict=True)) + " |")
    for page, score in scores.items():
        for measure, item in score.misses:
            print(f"{page.name}: {measure}: {' '.join(item.split())[:100]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=Path, default=PAGES, help="folder of NAME.html and NAME.yaml")
    parser.add_argument("--prefix", default="", help="only pages whose name begins so")
    parser.add_argument("--seconds", type=float, default=5.0, help="processor seconds to time each extractor")
    parser.add_argument("--misses", action="store_true", help="list what ours misses, by kind of page")
    arguments = parser.parse_args()
    pages = {page: decode(page.content) for page in read_pages(arguments.pages)}
    pages = {page: html for page, html in pages.items() if page.name.startswith(arguments.prefix)}
    print(f"{len(pages)} pages, {sum(map(len, pages.values())) / 1e6:.2f} million characters")
    print_table(available_extractors(), pages, arguments.seconds)
    if arguments.misses:
        print_misses(score_extractor(extract_html, pages))


if __name__ == "__main__":
    main()
