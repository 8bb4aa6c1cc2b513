"""Quality and speed of web-page extraction on the pages of tests/pages, beside public extractors in the same run.

python benchmarks/data_extraction.py                # the table
python benchmarks/data_extraction.py --misses       # and what ours misses, by kind of page
python benchmarks/data_extraction.py --prefix heldout_  # the pages that were kept apart while the rules were written
python benchmarks/data_extraction.py --pages FOLDER # other pages with truth files, or sets of real pages (below)

formulas, code, prose: share of what the page's truth names that is in the output. `code fenced` asks for the exact
block in a Markdown fence, `code as text` for the same lines anywhere (plain-text extractors have no fences).
leaks: share of boilerplate strings in the output; less is better. pages/s: per second of processor time, one process,
from decoded page to text, over the set repeated. slowest: the slowest page of the timed rounds, in processor time.

A folder of `*.jsonl` or `*.jsonl.zst` holds sets of real pages with hand-made truth, a page a line: `id`, `set`, `url`,
`html` or `html_base64`, and `truth` (the main text) or `with` and `without` (sentences). A table a set, scored as
`megatron_mimo.data.extract.text_scores` says; every page is read once. Peers leave comments out where they can, and
keep them in sets of threads. Who trained the block model on the same pages sees scores that are too good: `python -m
megatron_mimo.data.extract.block_training FOLDER --report` prints those of models that have not seen the page's site.
"""

import argparse
import platform
import time
from collections import defaultdict
from pathlib import Path
from sys import path

path.insert(0, str(Path(__file__).parents[1] / "tests"))

from megatron_mimo.data.extract import decode, extract_html
from megatron_mimo.data.extract.peers import PEERS, Extractor
from megatron_mimo.data.extract.text_scores import read_records, score_text, summary
from support.page_scoring import MEASURES, PAGES, Page, Score, read_pages, score_page

TITLES = {
    "trafilatura": "trafilatura, markdown",
    "trafilatura_plain": "trafilatura, plain",
    "resiliparse": "resiliparse main_content",
    "readability": "readability-lxml",
}


def available_extractors() -> dict[str, Extractor]:
    """Ours and every installed peer; a missing one is named."""
    extractors: dict[str, Extractor] = {"megatron_mimo": extract_html}
    for name, load in PEERS.items():
        try:
            extractors[TITLES[name]] = load()
        except ImportError as error:
            print(f"{TITLES[name]}: left out, not installed ({error})")
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


def print_sets(extractors: dict[str, Extractor], folder: Path) -> None:
    """A table for each set of real pages."""
    sets: dict[str, list[dict]] = defaultdict(list)
    for record in read_records(folder):
        sets[record.get("set", "pages")].append(record)
    columns = ["P", "R", "F", "leak %", "lost", "pages/s", "slowest ms"]
    for name, records in sorted(sets.items()):
        print(f"\n{name}: {len(records)} pages\n| {'extractor':24} | " + " | ".join(columns) + " |")
        print("|---|" + "---|" * len(columns))
        for title, extractor in extractors.items():
            print(f"| {title:24} | " + " | ".join(_set_cells(extractor, records)) + " |", flush=True)


def _set_cells(extractor: Extractor, records: list[dict]) -> list[str]:
    scores, seconds = [], []
    for record in records:
        start = time.process_time()
        text = run_safely(extractor, record["html"], record["url"])
        seconds.append(time.process_time() - start)
        scores.append(score_text(record, text))
    total = summary(scores)
    leak = "" if total.leak is None else f"{100 * total.leak:.1f}"
    shares = [f"{share:.3f}" for share in (total.precision, total.recall, total.f)]
    return [*shares, leak, str(total.lost), f"{len(records) / sum(seconds):.0f}", f"{1000 * max(seconds):.0f}"]


def processor() -> str:
    """The name of this machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pages", type=Path, default=PAGES, help="folder of NAME.html and NAME.yaml, or of *.jsonl.zst"
    )
    parser.add_argument("--prefix", default="", help="only pages whose name begins so")
    parser.add_argument("--seconds", type=float, default=5.0, help="processor seconds to time each extractor")
    parser.add_argument("--misses", action="store_true", help="list what ours misses, by kind of page")
    arguments = parser.parse_args()
    print(f"processor: {processor()}")
    if any(arguments.pages.glob("*.jsonl*")):
        print_sets(available_extractors(), arguments.pages)
        return
    pages = {page: decode(page.content) for page in read_pages(arguments.pages)}
    pages = {page: html for page, html in pages.items() if page.name.startswith(arguments.prefix)}
    print(f"{len(pages)} pages, {sum(map(len, pages.values())) / 1e6:.2f} million characters")
    print_table(available_extractors(), pages, arguments.seconds)
    if arguments.misses:
        print_misses(score_extractor(extract_html, pages))


if __name__ == "__main__":
    main()
