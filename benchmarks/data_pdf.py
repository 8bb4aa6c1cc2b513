"""PDF extraction on your own files: words kept whole, and speed, compared with other sources of a PDF's characters.

    python benchmarks/data_pdf.py FOLDER_OF_PDFS

"Words kept" is the share of the words of pdfium's own text that stand in the output unbroken and unglued (words that
a hyphen breaks at a line end are left out; Chinese, Japanese and Korean count by character). Running headers and page
numbers, which the extractor drops, count as lost. pdfminer.six and docling-parse (its words) are measured where
they are installed; pdfium itself, whose characters ours reads, is the reference.
"""

import argparse
import re
import statistics
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pypdfium2

from megatron_mimo.data.extract.pdf import PdfError, read_pdf

HYPHENATED = re.compile(r"\S*[\x02\ufffe]\s*\S*")
SCRIPTS = re.compile(r"[_^]\{([^}]*)\}|[_^](.)")
WIDE = re.compile(r"([\u3000-\u9fff\uac00-\ud7af\uff00-\uffef])")
TABLE_MARKS = re.compile(r"^\| (?:--- \| ?)+$|(?<!\\)\|", re.M)


def pdfium_text(data: bytes) -> str:
    document = pypdfium2.PdfDocument(data)
    try:
        return "\n".join(page.get_textpage().get_text_range() for page in document)
    finally:
        document.close()


def our_text(data: bytes) -> str:
    text = TABLE_MARKS.sub(" ", read_pdf(data).text).replace("\n- ", "\n• ")
    return SCRIPTS.sub(lambda match: match[1] or match[2], text)


def pdfminer_text() -> Callable[[bytes], str] | None:
    try:
        from io import BytesIO

        from pdfminer.high_level import extract_text
    except ImportError:
        return None
    return lambda data: extract_text(BytesIO(data))


def docling_text() -> Callable[[bytes], str] | None:
    try:
        from io import BytesIO

        from docling_core.types.doc.page import TextCellUnit
        from docling_parse.pdf_parser import DoclingPdfParser
    except ImportError:
        return None

    def text(data: bytes) -> str:
        document = DoclingPdfParser().load(BytesIO(data))
        pages = (page for _, page in document.iterate_pages())
        return "\n".join(cell.text for page in pages for cell in page.iterate_cells(TextCellUnit.WORD))

    return text


PEERS = {"pdfminer.six": pdfminer_text, "docling-parse": docling_text}


def words(text: str) -> Counter[str]:
    plain = unicodedata.normalize("NFKC", HYPHENATED.sub(" ", text))
    return Counter(WIDE.sub(r" \1 ", plain).split())


def measure(extract: Callable[[bytes], str], data: bytes, reference: Counter[str]) -> tuple[float, float]:
    """(share of the reference's words kept, CPU seconds); nothing is kept of a file that gives an error."""
    start = time.process_time()
    try:
        found = words(extract(data))
    except Exception as error:
        if not isinstance(error, PdfError):
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        found = Counter()
    kept = sum((reference & found).values()) / max(reference.total(), 1)
    return kept, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    extractors: dict[str, Callable[[bytes], str]] = {"ours": our_text}
    for name, load in PEERS.items():
        peer = load()
        if peer:
            extractors[name] = peer
        else:
            print(f"{name}: left out, not installed", file=sys.stderr)
    shares: dict[str, list[float]] = {name: [] for name in extractors}
    seconds = dict.fromkeys(extractors, 0.0)
    print(f"{'file':<40}{'words':>8}" + "".join(f"{name:>16}" for name in extractors))
    for path in sorted(folder.glob("*.pdf")):
        data = path.read_bytes()
        try:
            reference = words(pdfium_text(data))
        except pypdfium2.PdfiumError as error:
            print(f"{path.name:<40}{'-':>8}  {error}")
            continue
        if not reference:
            print(f"{path.name:<40}{0:>8}  no text")
            continue
        row = ""
        for name, extract in extractors.items():
            kept, spent = measure(extract, data, reference)
            shares[name].append(kept)
            seconds[name] += spent
            row += f"{100 * kept:>14.1f} %"
        print(f"{path.name:<40}{reference.total():>8,}{row}")
    for name, found in shares.items():
        print(f"{name}: median {100 * statistics.median(found):.1f} % of words, {seconds[name]:.1f} s of CPU time")


if __name__ == "__main__":
    main()
