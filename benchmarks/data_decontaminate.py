"""MB of text per CPU second and core through the decontamination step, beside a set of n-gram tuples, in one run.

python benchmarks/data_decontaminate.py [--benchmarks 'FOLDER/*.jsonl*'] [--megabytes 20]

The documents are sources and texts of this Python installation. The benchmarks are your own JSON-lines files, or
made up from the same installation's words. One n-gram in `--planted` documents comes from a benchmark. The peer is the
plain way: the same normalized words, every n-gram as a tuple, looked up in a Python set. Both must find the same.
"""

import argparse
import glob
import gzip
import json
import random
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from megatron_mimo.data.decontaminate.index import BenchmarkText, build_index
from megatron_mimo.data.decontaminate.words import normalized_words


def main() -> int:
    """Print the table; exit code 1 when the two find different documents or a planted overlap is missed."""
    args = _arguments()
    source = random.Random(0)
    documents = _documents(int(args.megabytes * 1e6))
    texts = _benchmarks(args.benchmarks) if args.benchmarks else _made_up(documents[::7], source)
    planted = _plant(documents, texts, args.planted, args.ngram_words, source)
    start = time.process_time()
    index = build_index(texts, args.ngram_words)
    build_seconds = time.process_time() - start
    reference = {gram for text in texts for gram in _grams(text.text, args.ngram_words)}
    ways: dict[str, Callable[[str], bool]] = {
        "megatron_mimo": lambda text: bool(index.find(text, match_short=False)),
        "set of tuples": lambda text: any(gram in reference for gram in _grams(text, args.ngram_words)),
        "normalizing alone": lambda text: bool(normalized_words(text)),
    }
    text_bytes = sum(len(document.encode()) for document in documents)
    print(
        f"{len(texts):,} benchmark texts, {index.num_ngrams:,} {args.ngram_words}-grams, built in {build_seconds:.1f} s"
    )
    print(f"{len(documents):,} documents, {text_bytes / 1e6:.1f} MB, {len(planted)} planted\n")
    print(f"{'':<20} {'CPU s':>8} {'MB/CPU s':>9} {'documents found':>16}")
    found = {}
    for name, way in ways.items():
        start = time.process_time()
        found[name] = {number for number, document in enumerate(documents) if way(document)}
        seconds = time.process_time() - start
        shown = len(found[name]) if name in list(ways)[:2] else ""
        print(f"{name:<20} {seconds:>8.2f} {text_bytes / seconds / 1e6:>9.1f} {shown:>16}", flush=True)
    same = found["megatron_mimo"] == found["set of tuples"]
    missed = planted - found["megatron_mimo"]
    print(f"\nsame documents: {same}; planted and missed: {len(missed)}")
    return 0 if same and not missed else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", help="pattern of JSON-lines files; every text field is indexed")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--ngram-words", type=int, default=16)
    parser.add_argument("--planted", type=int, default=200)
    return parser.parse_args()


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = normalized_words(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _documents(wanted_bytes: int) -> list[str]:
    """Files of the installation, cut at 20 000 characters."""
    root = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(path for kind in ("py", "md", "txt", "rst") for path in root.rglob(f"*.{kind}"))
    random.Random(0).shuffle(paths)
    documents: list[str] = []
    for path in paths:
        documents.append(path.read_text(encoding="utf-8", errors="replace")[:20_000])
        wanted_bytes -= len(documents[-1])
        if wanted_bytes < 0:
            break
    return documents


def _benchmarks(pattern: str) -> list[BenchmarkText]:
    texts = []
    for path in sorted(glob.glob(pattern)):
        open_text = gzip.open if path.endswith(".gz") else open
        with open_text(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                record: dict[str, Any] = json.loads(line)
                texts += [
                    BenchmarkText(Path(path).name, str(number), value)
                    for value in record.values()
                    if isinstance(value, str)
                ]
    return texts


def _made_up(documents: list[str], source: random.Random) -> list[BenchmarkText]:
    """10 000 questions of words that the documents use."""
    words = sorted({word for document in documents for word in normalized_words(document)})[:20_000]
    lengths = (source.randrange(20, 120) for _ in range(10_000))
    return [BenchmarkText("made up", str(n), " ".join(source.choices(words, k=k))) for n, k in enumerate(lengths)]


def _plant(documents: list[str], texts: list[BenchmarkText], number: int, n: int, source: random.Random) -> set[int]:
    """Put n consecutive words of a benchmark text into `number` documents; returns which."""
    long = [words for text in texts if len(words := normalized_words(text.text)) >= n]
    places = set(source.sample(range(len(documents)), min(number, len(documents))))
    for place in places:
        words = source.choice(long)
        start, at = source.randrange(len(words) - n + 1), source.randrange(len(documents[place]) + 1)
        planted = " ".join(words[start : start + n])
        documents[place] = f"{documents[place][:at]} {planted} {documents[place][at:]}"
    return places


if __name__ == "__main__":
    sys.exit(main())
