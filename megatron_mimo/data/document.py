"""The unit of data from the raw page to the tokenizer, and two decisions taken on its hash: duplicate, held out."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Split = Literal["train", "valid"]


@dataclass
class Document:
    """One text: a raw page at the start of the pipeline, clean text at its end."""

    id: str
    """Unique in the corpus; names the place it came from (`dump.warc.gz:81234`, `topics/with#0`)."""
    text: str
    split: Split = "train"
    url: str = ""
    source: str = ""
    """Source of the mixture it belongs to."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """JSON values that steps leave for later ones: media type, language, tags, scores."""


def digest(text: str) -> bytes:
    """SHA-256 of the UTF-8 text."""
    return hashlib.sha256(text.encode()).digest()


def is_held_out(key: str, share: float) -> bool:
    """True for about `share` of all keys: a pure function of the key, whatever else the corpus holds."""
    return int.from_bytes(digest(key)[:8], "big") < share * 2**64


def split_by_hash(texts: Iterable[tuple[str, str]], valid_share: float) -> Iterator[Document]:
    """Turn `(id, text)` pairs into documents; about `valid_share` of them go to the valid split."""
    for identifier, text in texts:
        yield Document(identifier, text, "valid" if is_held_out(text, valid_share) else "train")


def deduplicate(documents: Iterable[Document]) -> Iterator[Document]:
    """Drop empty documents and exact repetitions of an earlier text."""
    seen: set[bytes] = set()
    for document in documents:
        key = digest(document.text)
        if document.text.strip() and key not in seen:
            seen.add(key)
            yield document


def cut_paragraphs(paragraphs: Iterable[str], limit_characters: int) -> Iterator[str]:
    """Join paragraphs into texts of at most `limit_characters`; a longer paragraph stands (cut) alone."""
    text = ""
    for paragraph in paragraphs:
        paragraph = paragraph[:limit_characters]
        if text and len(text) + 2 + len(paragraph) > limit_characters:
            yield text
            text = ""
        text = f"{text}\n\n{paragraph}" if text else paragraph
    if text:
        yield text
