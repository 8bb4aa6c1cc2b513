"""Existing `.bin/.idx` pairs as a source of a data folder: measured, and left where they are.

Nothing is tokenized and, but for `eod: add`, nothing copied: the manifest refers to ranges of the pairs. What each
pair turned out to be is kept in `parts/SOURCE/`, so that an interrupted import continues with the next pair.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dacite
import numpy as np

from megatron_mimo.config import UserError
from megatron_mimo.data.tokens.manifest import RangeEntry, SourceEntry, SplitEntry
from megatron_mimo.data.tokens.peer_pair import PairFacts, PeerPair
from megatron_mimo.data.tokens.sources import SourceConfig, pair_prefixes
from megatron_mimo.data.tokens.tokenize_source import TokenizeJob, ordered_map
from megatron_mimo.platform.files import write_json

REPORT_SECONDS = 30.0
SHOWN_CHARACTERS = 60


@dataclass(kw_only=True)
class ImportedPair:
    """A pair, or its copy with EOD tokens, and the place where its held-out documents begin."""

    original: str
    """Path without ending."""
    prefix: str
    """Where the tokens are read: absolute, or a copy relative to the data folder."""
    facts: PairFacts
    original_facts: PairFacts
    """The same as `facts` where there is no copy."""
    split_document: int
    """The first document that is held out; the number of documents where none is."""
    split_token: int
    beginning: str
    """Start of the first document as the tokenizer decodes it."""


def import_source(source: SourceConfig, job: TokenizeJob, report: Callable[[str], None]) -> SourceEntry:
    """Measure the pairs of a source and describe them as its splits; `report` takes lines of progress.

    Raises UserError for a damaged pair, for token ids outside the vocabulary, and for documents without an EOD token
    unless the source's `eod` says what to do with them.
    """
    wanted = [(path, source.valid_share) for path in pair_prefixes(source.name, source.pairs or [])]
    if source.valid_pairs:
        wanted = [(path, 0.0) for path, _ in wanted]
        wanted += [(path, 1.0) for path in pair_prefixes(source.name, source.valid_pairs)]
    if len({path for path, _ in wanted}) < len(wanted):
        raise UserError(f"source {source.name}: a pair stands in pairs or valid_pairs twice; name each once")
    progress = _Progress(source.name, [path for path, _ in wanted], report)
    take_in = functools.partial(import_pair, source, job, None if job.num_workers else progress.beat)
    pairs = []
    for pair in ordered_map(take_in, [(number, *item) for number, item in enumerate(wanted)], job.num_workers):
        pairs.append(pair)
        progress.done(pair)
        for line in notes(pair, job.encoder.vocab_size, job.encoder.eod_token_id):
            report(f"{source.name}:   {line}")
    return SourceEntry(
        domain=source.domain,
        train=_split(pairs, held_out=False),
        valid=_split(pairs, held_out=True),
        unended_documents=sum(pair.facts.unended_documents for pair in pairs),
    )


def import_pair(
    source: SourceConfig, job: TokenizeJob, beat: Callable[[int], None] | None, item: tuple[int, Path, float]
) -> ImportedPair:
    """Measure one pair, or return what an interrupted run of the same recipe measured.

    `item`: its number in the source, path without ending, and the share of its documents that is held out.
    """
    number, path, valid_share = item
    part = job.folder / "parts" / source.name / f"{number:05d}.json"
    kept = _read_part(part, job.recipe_sha256)
    if kept is not None:
        return kept
    encoder = job.encoder
    pair = PeerPair(path)
    facts = original_facts = pair.measure(encoder.vocab_size, encoder.eod_token_id, *([beat] if beat else []))
    prefix = str(path)
    if facts.unended_documents and source.eod == "required":
        raise UserError(f"source {source.name}: {_no_eod(path, facts, job)}")
    if facts.unended_documents and source.eod == "add":
        prefix = f"{source.name}_{number:05d}"
        pair.copy_with_eod(job.folder / prefix, encoder.vocab_size, encoder.eod_token_id)
        pair = PeerPair(job.folder / prefix)
        facts = pair.measure(encoder.vocab_size, encoder.eod_token_id)
    split_document = facts.documents - held_out_documents(facts.documents, valid_share)
    imported = ImportedPair(
        original=str(path),
        prefix=prefix,
        facts=facts,
        original_facts=original_facts,
        split_document=split_document,
        split_token=pair.start_of(split_document),
        beginning=encoder.tokenizer.decode(np.asarray(pair.tokens[:64]).tolist(), skip_special_tokens=False),
    )
    part.parent.mkdir(parents=True, exist_ok=True)
    write_json(part, {"recipe_sha256": job.recipe_sha256, "pair": dataclasses.asdict(imported)})
    return imported


def held_out_documents(documents: int, share: float) -> int:
    """How many of a pair's documents are held out: at least one of several, and never all but for a share of 1."""
    if share in (0.0, 1.0):
        return int(share) * documents
    return min(max(1, round(share * documents)), documents - 1)


def notes(pair: ImportedPair, vocab_size: int, eod: int) -> Iterator[str]:
    """What a reader should know of a pair, a line each."""
    facts = pair.original_facts
    if not facts.marks_documents:
        yield f"its index marks no documents: each of its {facts.sequences:,} sequences is taken as one"
    if facts.empty_documents:
        yield f"{facts.empty_documents:,} of its documents are empty"
    if pair.prefix != pair.original:
        yield f"{facts.unended_documents:,} documents had no EOD token: a copy with them is in the data folder"
    elif facts.unended_documents:
        yield f"{facts.unended_documents:,} documents do not end with EOD token {eod}: they run into the next ones"
    if facts.eod_tokens > facts.ended_documents:
        yield f"{facts.eod_tokens - facts.ended_documents:,} EOD tokens stand inside documents, and end them there"
    highest = int(np.iinfo(facts.dtype).max)
    if highest < vocab_size - 1:
        yield (
            f"ids of type {facts.dtype} end at {highest}, the tokenizer's at {vocab_size - 1}: make sure that this is"
            " the tokenizer it was made with, and that no larger id was cut off"
        )
    shown = pair.beginning[:SHOWN_CHARACTERS]
    yield f"it begins: {shown!r}. If that is no text, the tokenizer is not the one it was made with"


def _no_eod(path: Path, facts: PairFacts, job: TokenizeJob) -> str:
    eod, tokenizer = job.encoder.eod_token_id, job.encoder.tokenizer
    narrow = f", which {facts.dtype} cannot hold" if np.iinfo(facts.dtype).max < eod else ""
    return (
        f"{facts.unended_documents:,} of the {facts.documents:,} documents of {path} do not end with"
        f" {tokenizer.id_to_token(eod)} (id {eod}){narrow}; the first is"
        f" document {facts.first_unended:,}. The most frequent last token is id {facts.usual_end}"
        f" ({tokenizer.id_to_token(facts.usual_end)!r}, {facts.usual_end_documents:,} documents);"
        f" {facts.eod_tokens - facts.ended_documents:,} EOD tokens stand inside documents."
        "\nAttention and positions are kept inside documents by that token. Say in eod of the source (--eod) what to"
        " do: add makes a copy of the pair that has it after every document, ignore takes the tokens as they are, so"
        " that documents run into one another"
    )


def _read_part(path: Path, recipe_sha256: str) -> ImportedPair | None:
    try:
        part = json.loads(path.read_text())
        return dacite.from_dict(ImportedPair, part["pair"]) if part["recipe_sha256"] == recipe_sha256 else None
    except (OSError, ValueError, KeyError, dacite.DaciteError):
        return None


def _split(pairs: list[ImportedPair], held_out: bool) -> SplitEntry:
    """One split of all pairs; a range may be empty."""
    ranges, documents = [], 0
    for pair in pairs:
        facts = pair.facts
        first, last = (pair.split_token, facts.tokens) if held_out else (0, pair.split_token)
        documents += facts.documents - pair.split_document if held_out else pair.split_document
        if first < last:
            ranges.append(
                RangeEntry(
                    prefix=pair.prefix,
                    sha256=facts.sha256,
                    pair_sequences=facts.sequences,
                    pair_tokens=facts.tokens,
                    first_token=first,
                    tokens=last - first,
                )
            )
    return SplitEntry(
        prefix="",
        documents=documents,
        tokens=sum(part.tokens for part in ranges),
        bytes=None,
        sha256={},
        imported=ranges,
    )


class _Progress:
    """Lines on how far the reading has come, and how long the rest will take at its pace so far."""

    def __init__(self, source: str, paths: list[Path], report: Callable[[str], None]) -> None:
        self._source, self._report, self._pairs = source, report, len(paths)
        self._left = {str(path): Path(f"{path}.bin").stat().st_size for path in paths}
        self._all_bytes, self._began, self._said = sum(self._left.values()), time.monotonic(), time.monotonic()
        self._tokens = self._done = 0
        report(
            f"{source}: {self._all_bytes / 1e9:,.2f} GB in {len(paths):,} {'pairs' if paths[1:] else 'pair'} to read"
        )

    def beat(self, tokens: int) -> None:
        """Some tokens of the present pair were read."""
        self._tokens += tokens
        if time.monotonic() - self._said > REPORT_SECONDS:
            self._said = time.monotonic()
            self._report(f"{self._source}: {self._tokens:,} tokens of pair {self._done + 1:,} of {self._pairs:,} read")

    def done(self, pair: ImportedPair) -> None:
        """A pair is finished."""
        self._done, self._tokens = self._done + 1, 0
        self._left.pop(pair.original, None)
        left, now = sum(self._left.values()), time.monotonic()
        seconds = (now - self._began) / max(self._all_bytes - left, 1) * left
        rest = f", about {seconds / 60:,.0f} minutes left" if seconds > REPORT_SECONDS else ""
        facts = pair.original_facts
        self._report(
            f"{self._source}: {pair.original}: {facts.dtype}, {facts.documents:,} documents in {facts.sequences:,}"
            f" sequences, {facts.tokens:,} tokens, {facts.ended_documents:,} documents end with the EOD token{rest}"
        )
