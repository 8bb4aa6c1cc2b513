"""Deduplication from shards to decisions, and near-duplicate detection beside its peers: speed, recall, precision.

OMP_NUM_THREADS=1 python benchmarks/data_dedup.py

The corpus is cut from the texts of this Python installation; families of near-duplicates are made by replacing words
at rates that spread the pairs over Jaccard 0.55 to 1, and texts without a copy are added to `--documents`. All speeds
are CPU seconds of one core over bytes of text. The first row is judged: all stages, from reading the shards (twice) to
the decisions, with one recall, that of pairs of which the decisions keep one document. The other rows time what the
peers do, texts in memory -> band keys, on the families and as many documents without a copy.

A pair's Jaccard is computed exactly, on word 5-grams cut by a plain regular expression. All programs use 5-grams and 14
bands of 8 minima; this package also with its default, overlapping bands. Two recalls are given: pairs with a common
band key, beside what theory expects of these very pairs, and pairs in one cluster, which is what decides.

Precision is the share, among all pairs with a common band key, of those at or above the Jaccard where theory lets one
pair in a thousand share a key: 0.30 for plain bands, 0.28 for overlapping ones.

Peers: datatrove (`pip install datatrove spacy "xxhash<4"`) and rensa (its users cut shingles in Python, as here).
"""

import argparse
import itertools
import multiprocessing
import random
import re
import site
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megatron_mimo.data.dedup.config import DedupConfig
from megatron_mimo.data.dedup.decisions import read_decisions
from megatron_mimo.data.dedup.keys import text_hashes
from megatron_mimo.data.dedup.minhash import NATIVE, MinHash
from megatron_mimo.data.dedup.stages import dedup_stages
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.shards import read_documents, shard_path, write_documents
from megatron_mimo.data.pipeline.step import Task

NGRAM, NUM_BANDS, ROWS = 5, 14, 8
BINS = [(0.75, 0.80, 0.866), (0.80, 0.85, 0.964), (0.85, 1.01, 1.0)]
"""Jaccard from, below, recall to reach."""
COPIES = 3
WORDS = 500
NUM_SHARDS = 4
Keys = Callable[[list[str]], np.ndarray]
"""Texts -> integers [n, bands]: equal numbers in a column are a common band key."""


@dataclass
class Pair:
    one: int
    other: int
    jaccard: float


@dataclass
class Row:
    """What one program reaches: MB/s of a core, recalls in BINS, precision."""

    rate: float
    by_pair: list[float]
    by_cluster: list[float]
    precision: float


@dataclass
class Whole:
    """The run from shards to decisions."""

    documents: int
    megabytes: float
    phases: list[tuple[str, float]]
    """CPU seconds."""
    by_cluster: list[float]

    @property
    def rate(self) -> float:
        """MB/s of a core, of all stages."""
        return self.megabytes / dict(self.phases)["all stages"]


def main() -> int:
    """Print the tables; exit code 1 when a bar is missed."""
    args = _arguments()
    documents, others, pairs = make_corpus(args.families, args.documents, args.seed)
    texts = [document.text for document in documents]
    print(f"{len(texts)} documents, {megabytes(documents):.1f} MB, {len(pairs)} pairs in families", end="; ")
    print(f"end to end {len(texts) + len(others)} documents; extension built: {NATIVE}")
    overlapping = DedupConfig(partitions=NUM_SHARDS)
    plain = DedupConfig(overlapping_bands=False)
    rows = [("14 x 8, overlapping (default)", overlapping, _ours(overlapping)), ("14 x 8", plain, _ours(plain))]
    if args.peers:
        rows += [("datatrove, 14 x 8", plain, _datatrove), ("rensa, 14 x 8", plain, _rensa)]

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        whole = end_to_end(overlapping, Path(folder), [*documents, *others], pairs)
    print(
        f"\n{'one core':<30} {'CPU s/MB':>9} {'MB/s':>7}   {'recall of pairs':<21} {'recall in clusters':<21} precision"
    )
    print(f"{'shards -> decisions (default)':<30} {_speed(whole.rate)}   {'':<21} {_list(whole.by_cluster)}")
    print("texts -> band keys")
    results = []
    for name, config, make_keys in rows:
        row = measure(texts, pairs, make_keys, threshold(config.scheme))
        results.append(row)
        found = f"{_list(row.by_pair)} {_list(row.by_cluster)} {row.precision:.5f}"
        print(f"{name:<30} {_speed(row.rate)}   {found}", flush=True)
    for name, config in (("theory, overlapping", overlapping), ("theory", plain)):
        print(f"{name:<30} {'':>17}   {_list(theory(config.scheme, pairs))}")
    print(f"{'to reach':<30} {'':>9} {args.bar:>7.1f}   {_list(bar for _, _, bar in BINS)} {'':<21} 0.999")

    print(f"\n{'phase, one core, defaults':<30} {'CPU s':>8} {'MB/s':>9} {'us/document':>12}")
    for name, seconds in whole.phases:
        rate, each = whole.megabytes / max(seconds, 1e-9), seconds / whole.documents * 1e6
        print(f"{name:<30} {seconds:>8.3f} {rate:>9.1f} {each:>12.1f}")
    ours = results[0]
    recalled = [*zip(ours.by_pair, BINS, strict=True), *zip(whole.by_cluster, BINS, strict=True)]
    reached = all(recall >= bar for recall, (_, _, bar) in recalled)
    return 0 if reached and whole.rate >= args.bar and ours.precision >= 0.999 else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", type=int, default=1000, help=f"each a text and {COPIES} changed copies")
    parser.add_argument("--documents", type=int, default=30_000, help="end to end, families among them")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="run the peers too")
    parser.add_argument("--folder", help="for temporary files")
    parser.add_argument("--bar", type=float, default=50, help="MB/s of shards -> decisions to reach")
    return parser.parse_args()


def make_corpus(families: int, num_documents: int, seed: int) -> tuple[list[Document], list[Document], list[Pair]]:
    """Shuffled documents, half of them in families; more without a copy; and all pairs of one family."""
    random_ = random.Random(seed)
    stream = _pieces(random_)
    pieces = list(itertools.islice(stream, families * (2 + COPIES)))
    more = list(itertools.islice(stream, max(0, num_documents - families * 2 * (1 + COPIES))))
    texts, family_of = [], []
    for family, piece in enumerate(pieces[:families]):
        words = re.split(r"(\W+)", piece)
        for copy in range(1 + COPIES):
            rate = random_.uniform(0, 0.05) if copy else 0
            texts.append("".join(f"w{random_.randrange(10**6)}" if random_.random() < rate else word for word in words))
            family_of.append(family)
    texts += pieces[families:]
    family_of += [-1] * (len(texts) - len(family_of))
    order = list(range(len(texts)))
    random_.shuffle(order)
    documents = [_document(place, i, texts[i]) for place, i in enumerate(order)]
    others = [_document(place, place, text) for place, text in enumerate(more, start=len(documents))]
    members = defaultdict(list)
    for place, i in enumerate(order):
        if family_of[i] >= 0:
            members[family_of[i]].append(place)
    pairs = []
    for places in members.values():
        shingles = {place: shingle_set(documents[place].text) for place in places}
        pairs += [Pair(a, b, jaccard(shingles[a], shingles[b])) for a, b in itertools.combinations(places, 2)]
    return documents, others, pairs


def _document(place: int, number: int, text: str) -> Document:
    return Document(
        str(place), text, url=f"https://www.example{number % 97}.org/page/{number}?utm_source=feed&id={number}"
    )


def megabytes(documents: list[Document]) -> float:
    return sum(len(document.text.encode()) for document in documents) / 1e6


def _pieces(random_: random.Random) -> Iterator[str]:
    """Texts of WORDS words from sources and documentation."""
    roots = [sysconfig.get_paths()["stdlib"], *site.getsitepackages()]
    files = sorted({p for root in roots for ext in ("py", "md", "rst", "txt") for p in Path(root).rglob(f"*.{ext}")})
    random_.shuffle(files)
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        words = list(re.finditer(r"\S+", text))
        for start in range(0, len(words) - WORDS, WORDS):
            yield text[words[start].start() : words[start + WORDS].start()]


def shingle_set(text: str) -> set[tuple[str, ...]]:
    """Word 5-grams by a regular expression: independent of the code that is measured."""
    words = re.findall(r"[^\W_]+", text.lower())
    return {tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


def jaccard(one: set, other: set) -> float:
    return len(one & other) / max(1, len(one | other))


def threshold(scheme: MinHash) -> float:
    """Jaccard at which one pair in a thousand shares a key, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if scheme.collision_probability(middle) < 0.001 else (low, middle)
    return low


def theory(scheme: MinHash, pairs: list[Pair]) -> list[float]:
    """Recall to expect of these pairs."""
    probabilities = [[scheme.collision_probability(p.jaccard) for p in pairs if a <= p.jaccard < b] for a, b, _ in BINS]
    return [float(np.mean(part)) for part in probabilities]


def measure(texts: list[str], pairs: list[Pair], make_keys: Keys, lowest: float) -> Row:
    """Time one program and compare what it finds with the truth."""
    make_keys(texts[:20])
    start = time.process_time()
    keys = make_keys(texts)
    seconds = time.process_time() - start
    clusters = components(keys)
    return Row(
        sum(len(text.encode()) for text in texts) / 1e6 / seconds,
        recalls(pairs, lambda pair: bool((keys[pair.one] == keys[pair.other]).any())),
        recalls(pairs, lambda pair: clusters[pair.one] == clusters[pair.other]),
        precision(texts, keys, lowest),
    )


def recalls(pairs: list[Pair], found: Callable[[Pair], bool]) -> list[float]:
    return [float(np.mean([found(pair) for pair in pairs if low <= pair.jaccard < high])) for low, high, _ in BINS]


def precision(texts: list[str], keys: np.ndarray, lowest: float) -> float:
    """Share of pairs with a common key that have the lowest Jaccard; at most 50 documents a key are paired."""
    found = set()
    for column in keys.T:
        groups = defaultdict(list)
        for place, key in enumerate(column.tolist()):
            groups[key].append(place)
        for places in groups.values():
            found |= set(itertools.combinations(places[:50], 2))
    shingles = {place: shingle_set(texts[place]) for pair in found for place in pair}
    return sum(jaccard(shingles[a], shingles[b]) >= lowest for a, b in found) / max(1, len(found))


def components(keys: np.ndarray) -> list[int]:
    """Cluster of every document, by plain union-find over common keys."""
    parent = list(range(len(keys)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for column in keys.T:
        first: dict[int, int] = {}
        for place, key in enumerate(column.tolist()):
            parent[root(place)] = root(first.setdefault(key, place))
    return [root(place) for place in range(len(keys))]


def _ours(config: DedupConfig) -> Keys:
    def keys(texts: list[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), 256):
            part = texts[start : start + 256]
            text_hashes(part)  # the key of exact duplicates is part of the work
            parts.append(config.scheme.band_keys(config.scheme.signatures(part)))
        return np.concatenate(parts)

    return keys


def _datatrove(texts: list[str]) -> np.ndarray:
    try:
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

        step = MinhashDedupSignature(tempfile.gettempdir(), MinhashConfig())
    except ImportError as error:
        sys.exit(f'datatrove is missing: pip install datatrove spacy "xxhash<4" ({error})')
    return _numbered([[tuple(band) for band in step.get_signature(step.get_shingles(text))] for text in texts])


def _rensa(texts: list[str]) -> np.ndarray:
    try:
        from rensa import RMinHash
    except ImportError as error:
        sys.exit(f"rensa is missing: pip install rensa ({error})")
    rows = []
    for text in texts:
        words = re.findall(r"[^\W_]+", text.lower())
        sketch = RMinHash(num_perm=NUM_BANDS * ROWS, seed=1)
        sketch.update([" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)])
        digest = sketch.digest()
        rows.append([tuple(digest[i : i + ROWS]) for i in range(0, len(digest), ROWS)])
    return _numbered(rows)


def _numbered(rows: list[list[tuple]]) -> np.ndarray:
    numbers: dict[tuple, int] = {}
    return np.array([[numbers.setdefault((i, *band), len(numbers)) for i, band in enumerate(row)] for row in rows])


def end_to_end(config: DedupConfig, folder: Path, documents: list[Document], pairs: list[Pair]) -> Whole:
    """Run every stage over all its tasks."""
    for index in range(NUM_SHARDS):
        write_documents(shard_path(folder / "in", index), documents[index::NUM_SHARDS])
    # Its own process, as tasks have: the corpus in this one would slow it down.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        phases = pool.submit(run_phases, config, folder).result()
    kept: dict[tuple[int, int], int] = {}  # (shard, position) -> number of the document that stays
    for shard in range(NUM_SHARDS):
        for position, number, _, _ in read_decisions(folder / "work" / "decisions" / f"{shard:05d}.bin")[1]:
            kept[shard, position] = number

    def stays(place: int) -> int | None:
        return kept.get((place % NUM_SHARDS, place // NUM_SHARDS))

    found = recalls(pairs, lambda pair: stays(pair.one) is not None and stays(pair.one) == stays(pair.other))
    return Whole(len(documents), megabytes(documents), phases, found)


def run_phases(config: DedupConfig, folder: Path) -> list[tuple[str, float]]:
    """CPU seconds of every stage over all its tasks, shards to decisions; reading alone for comparison."""
    start = time.process_time()
    for index in range(NUM_SHARDS):
        for _ in read_documents(shard_path(folder / "in", index)):
            pass
    phases = [("(reading the shards alone)", time.process_time() - start)]
    total, rounds = 0.0, 0.0
    for stage in dedup_stages(config, folder / "in", folder / "work"):
        start = time.process_time()
        for index in range(stage.num_tasks):
            stage.run(Task(index=index, num_tasks=stage.num_tasks))
        seconds = time.process_time() - start
        total += seconds
        if "-star-" in stage.name:
            rounds += seconds
        else:
            phases.append((stage.name, seconds))
    return [*phases, (f"{config.cluster_rounds} rounds of contraction", rounds), ("all stages", total)]


def _speed(rate: float) -> str:
    return f"{1 / rate:>9.4f} {rate:>7.1f}"


def _list(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:6.4f}" for number in numbers)


if __name__ == "__main__":
    sys.exit(main())
