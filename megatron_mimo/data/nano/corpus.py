"""The embedded corpus of the nano model: real text and code of the Python installation, and generated reasoning.

The same Python always gives the same documents in the same order. Text and code are split by the hash of each document
here; the pipeline of `examples/nano/data.yaml` splits them anew, by clusters of similar documents.
"""

import functools
from collections.abc import Callable, Iterable

from megatron_mimo.data.document import Document, deduplicate, digest, split_by_hash
from megatron_mimo.data.nano.corpus_arithmetic import arithmetic_documents
from megatron_mimo.data.nano.corpus_graded import graded_documents
from megatron_mimo.data.nano.corpus_recall import recall_documents
from megatron_mimo.data.nano.corpus_synthetic import synthetic_documents
from megatron_mimo.data.nano.corpus_text import code_texts, prose_texts

CONTENT_VERSION = 2
"""Raise it with every change after which the same Python makes other documents, or the same texts another tokenizer:
data folders that were made before are then known to be old. tests/golden/data_content.json notices such a change."""
VALID_SHARE = 0.08
"""Share of the text and code documents held out: enough for some tens of them."""


def _text() -> Iterable[Document]:
    return split_by_hash(prose_texts(), VALID_SHARE)


def _code() -> Iterable[Document]:
    return split_by_hash(code_texts(), VALID_SHARE)


EMBEDDED_SOURCES: dict[str, tuple[str, Callable[[], Iterable[Document]]]] = {
    "text": ("web", _text),
    "code": ("code", _code),
    "arithmetic": ("math", arithmetic_documents),
    "synthetic": ("synthetic", synthetic_documents),
    "graded": ("math", graded_documents),
    "recall": ("synthetic", recall_documents),
}
"""Name -> (domain, documents)."""


@functools.cache
def embedded_documents(source: str) -> tuple[Document, ...]:
    """The documents of one embedded source without repetitions, shuffled by the hash of their text."""
    _, generate = EMBEDDED_SOURCES[source]
    return tuple(sorted(deduplicate(generate()), key=lambda document: digest(document.text)))
