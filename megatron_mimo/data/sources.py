"""Where documents come from: the embedded corpus, or JSON-lines files of one's own."""

import glob
import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.corpus import EMBEDDED_SOURCES, embedded_documents
from megatron_mimo.data.document import Document, deduplicate, split_by_hash


@dataclass(kw_only=True)
class SourceConfig:
    """One source of a data folder."""

    name: str
    domain: str
    embedded: str | None = None
    """Name of a generated source: text, code, arithmetic or synthetic."""
    jsonl: str | None = None
    """Files (glob, `.jsonl` or `.jsonl.gz`) with one JSON object a line. Shuffle the documents beforehand."""
    text_field: str = "text"
    valid_share: float = 0.002
    """Share of the documents of `jsonl` held out, chosen by the hash of their text."""

    def __post_init__(self) -> None:
        if (self.embedded is None) == (self.jsonl is None):
            raise ConfigError(f"sources: {self.name}", None, "give exactly one of embedded and jsonl")
        if self.embedded is not None and self.embedded not in EMBEDDED_SOURCES:
            raise ConfigError(
                f"sources: {self.name}: embedded", self.embedded, f"must be one of {', '.join(EMBEDDED_SOURCES)}"
            )
        if not 0 <= self.valid_share < 1:
            raise ConfigError(f"sources: {self.name}: valid_share", self.valid_share, "must be in [0, 1)")


def source_documents(source: SourceConfig) -> Iterable[Document]:
    """The documents of a source, without exact repetitions; raises UserError on a line that is no document."""
    if source.embedded is not None:
        return embedded_documents(source.embedded)
    return deduplicate(split_by_hash(_read_jsonl(source), source.valid_share))


def source_files(source: SourceConfig) -> list[str]:
    """The files of a JSON-lines source in the order they are read; raises UserError when there are none."""
    if source.jsonl is None:
        return []
    files = sorted(glob.glob(source.jsonl, recursive=True))
    if not files:
        raise UserError(f"source {source.name}: no file matches {source.jsonl!r}; correct its jsonl pattern")
    return files


def _read_jsonl(source: SourceConfig) -> Iterator[tuple[str, str]]:
    for path in source_files(source):
        open_text = gzip.open if path.endswith(".gz") else open
        with open_text(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = json.loads(line)
                    yield (str(record.get("id", f"{path}:{number}")), str(record[source.text_field]))
                except (ValueError, KeyError, AttributeError) as error:
                    raise UserError(
                        f"{path}, line {number}: not a JSON object with a {source.text_field!r} field ({error});"
                        " correct the line, or text_field of the source"
                    ) from error
