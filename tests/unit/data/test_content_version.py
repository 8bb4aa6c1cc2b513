"""What the embedded corpus makes is what its version says: a change of the content needs a new version."""

import hashlib
import json
import os
from pathlib import Path

from megatron_mimo.data.document import Document, split_by_hash
from megatron_mimo.data.nano.corpus import CONTENT_VERSION, embedded_documents
from megatron_mimo.data.tokens.tokenizer import train_tokenizer

GOLDEN = Path(__file__).parents[2] / "golden" / "data_content.json"
TEXTS = [f"word{number} über {number * 7} def f(x): return x + {number}\n" for number in range(400)]


def digest_of(documents: list[Document]) -> str:
    listed = json.dumps([[document.text, document.split] for document in documents])
    return hashlib.sha256(listed.encode()).hexdigest()


def content() -> dict[str, object]:
    """Digests of what does not depend on the Python version."""
    enumerated = [(str(number), text) for number, text in enumerate(TEXTS)]
    tokenizer = train_tokenizer(iter(TEXTS), vocab_size=280)
    return {
        "version": CONTENT_VERSION,
        "arithmetic": digest_of(list(embedded_documents("arithmetic"))),
        "synthetic": digest_of(list(embedded_documents("synthetic"))),
        "split": digest_of(list(split_by_hash(enumerated, 0.1))),
        "tokenizer": hashlib.sha256(json.dumps([tokenizer.encode(text).ids for text in TEXTS]).encode()).hexdigest(),
    }


def test_content_changes_with_its_version_alone() -> None:
    """After an intended change: raise data/corpus.CONTENT_VERSION, then UPDATE_GOLDEN=1 pytest, and say why."""
    now = content()
    if os.environ.get("UPDATE_GOLDEN"):
        before = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
        assert before in ({}, now) or before["version"] != CONTENT_VERSION, "raise CONTENT_VERSION first"
        GOLDEN.write_text(json.dumps(now, indent=1) + "\n")
    assert now == json.loads(GOLDEN.read_text())
