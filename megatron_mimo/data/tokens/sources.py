"""Where documents come from: the embedded corpus, your own JSON-lines files, shards of the data pipeline, or
`.bin/.idx` pairs that are tokenized already.
"""

import glob
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import zstandard

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.document import Document, deduplicate, is_held_out, split_by_hash
from megatron_mimo.data.nano.corpus import EMBEDDED_SOURCES, embedded_documents
from megatron_mimo.data.pipeline.shards import read_documents, shard_paths
from megatron_mimo.platform.files import open_text


@dataclass(kw_only=True)
class SourceConfig:
    """One source of a data folder."""

    name: str
    domain: str
    embedded: str | None = None
    """Name of a generated source: text, code, arithmetic, synthetic, graded or recall."""
    jsonl: str | None = None
    """Files (glob, `.jsonl` or `.jsonl.gz`) with one JSON object per line. Shuffle the documents beforehand."""
    shards: str | None = None
    """Folder of the data pipeline's `00000.jsonl.zst` files, taken as they are: it has dropped repetitions already."""
    pairs: list[str] | None = None
    """Existing Megatron pairs, by their paths without `.bin` and `.idx` (globs allowed): used where they are."""
    valid_pairs: list[str] | None = None
    """Existing pairs that are held out; null holds out the last documents of every one of `pairs` (`valid_share`)."""
    eod: Literal["required", "add", "ignore"] = "required"
    """Documents of `pairs` without an EOD token: refused; copied with one added; or taken as they are, so that they run
    into one another."""
    only: str | None = None
    """Of `shards`, take only the documents whose `source` is this; null takes all."""
    text_field: str = "text"
    """Field of the text in `jsonl`."""
    valid_share: float = 0.002
    """Share of the documents of `jsonl` and `shards` held out, chosen by the hash of their text; documents that the
    pipeline put into the valid split are held out besides. Of `pairs` the last documents of each."""

    def __post_init__(self) -> None:
        if [self.embedded, self.jsonl, self.shards, self.pairs].count(None) != 3:
            raise ConfigError(f"sources: {self.name}", None, "give exactly one of embedded, jsonl, shards and pairs")
        if self.pairs is None and (self.valid_pairs is not None or self.eod != "required"):
            raise ConfigError(f"sources: {self.name}: valid_pairs, eod", self.valid_pairs or self.eod, "go with pairs")
        if self.embedded is not None and self.embedded not in EMBEDDED_SOURCES:
            raise ConfigError(
                f"sources: {self.name}: embedded", self.embedded, f"must be one of {', '.join(EMBEDDED_SOURCES)}"
            )
        if self.only is not None and self.shards is None:
            raise ConfigError(f"sources: {self.name}: only", self.only, "goes with shards")
        if not 0 <= self.valid_share < 1:
            raise ConfigError(f"sources: {self.name}: valid_share", self.valid_share, "must be in [0, 1)")


def source_documents(source: SourceConfig) -> Iterable[Document]:
    """The documents of a source in order; raises UserError on a line that is no document.

    Exact repetitions are left out, but for `shards`.
    """
    if source.pairs is not None:
        raise ValueError(f"source {source.name} has tokens, no documents")
    if source.embedded is not None:
        return embedded_documents(source.embedded)
    if source.shards is not None:
        return itertools.chain.from_iterable(shard_documents(source, Path(path)) for path in source_files(source))
    return deduplicate(split_by_hash(_read_jsonl(source), source.valid_share))


def source_files(source: SourceConfig) -> list[str]:
    """The input files of a source in the order they are read; raises UserError when there are none."""
    if source.embedded is not None:
        return []
    if source.pairs is not None:
        prefixes = pair_prefixes(source.name, [*source.pairs, *(source.valid_pairs or [])])
        return [f"{prefix}.{kind}" for prefix in prefixes for kind in ("bin", "idx")]
    if source.shards is not None:
        shards = [str(path) for path in shard_paths(source.shards)]
        if not shards:
            raise UserError(
                f"source {source.name}: no 00000.jsonl.zst in {source.shards!r}; correct its shards folder, or run the"
                " pipeline that fills it"
            )
        return shards
    assert source.jsonl is not None
    files = sorted(glob.glob(source.jsonl, recursive=True))
    if not files:
        raise UserError(f"source {source.name}: no file matches {source.jsonl!r}; correct its jsonl pattern")
    return files


def pair_prefixes(source: str, patterns: Sequence[str]) -> list[Path]:
    """Absolute paths without ending, in the order of the patterns; each names a pair, one of its files, or several.

    Raises UserError for a pattern that finds no index, and for an index without its tokens.
    """
    found: list[Path] = []
    for pattern in patterns:
        stem = pattern.removesuffix(".idx").removesuffix(".bin")
        paths = sorted(glob.glob(f"{stem}.idx", recursive=True))
        if not paths:
            raise UserError(
                f"source {source}: no file matches {stem}.idx; name the pair PREFIX.bin, PREFIX.idx by its PREFIX, or"
                " correct the pattern"
            )
        found += [Path(path.removesuffix(".idx")).absolute() for path in paths]
    for prefix in found:
        if not Path(f"{prefix}.bin").is_file():
            raise UserError(f"source {source}: {prefix}.bin is missing beside its .idx: get it, or leave the pair out")
    return found


def shard_documents(source: SourceConfig, path: Path) -> Iterator[Document]:
    """The source's documents in one shard, with their split; raises UserError where the shard is damaged."""
    try:
        for document in read_documents(path):
            if document.text.strip() and source.only in (None, document.source):
                held_out = document.split == "valid" or is_held_out(document.text, source.valid_share)
                document.split = "valid" if held_out else "train"
                yield document
    except (OSError, EOFError, zstandard.ZstdError, msgspec.DecodeError) as error:
        raise UserError(
            f"{path} is damaged: {error}\nDelete it and run the pipeline again: it makes the missing shard anew"
        ) from error


def _read_jsonl(source: SourceConfig) -> Iterator[tuple[str, str]]:
    for path in source_files(source):
        with open_text(path) as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = json.loads(line)
                    yield (str(record.get("id", f"{path}:{number}")), str(record[source.text_field]))
                except (ValueError, KeyError, AttributeError) as error:
                    raise UserError(
                        f"{path}, line {number}: not a JSON object with a {source.text_field!r} field ({error});"
                        " correct the line, or text_field of the source"
                    ) from error
