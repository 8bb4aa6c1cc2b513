"""Bits per byte of a causal language model on documents.

Every token of a document is scored. The first is predicted from a lone end-of-document token; the others from the
document's own tokens, the first at position 0, as training with intra-document attention shows them. That is a proper
chain of conditional probabilities, so the bits are those of a code that could be decoded. The end of the document is
not scored, as in the Kneser-Ney baseline. Bits are divided by the UTF-8 bytes of the text, which makes models with
different tokenizers comparable.

A document longer than the context is scored in windows that overlap by half: each token exactly once, with at least
half a window of context.

Shapes: `b`atch of windows, `s`equence (longest window of the batch).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LogProbabilities = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.floating]]
"""Token ids `[b, s]` -> natural log-probability of each next one, `ids[:, 1:]` after what precedes it: `[b, s-1]`."""


@dataclass(frozen=True)
class Window:
    """A slice of one document's tokens; only its last `scored` tokens count."""

    document: int
    ids: npt.NDArray[np.int64]
    scored: int


def document_nats(
    log_probabilities: LogProbabilities,
    documents: Iterable[list[int]],
    eod_token_id: int,
    context_tokens: int,
    batch_tokens: int = 8192,
) -> npt.NDArray[np.float64]:
    """Code length of each document (token ids without an end-of-document token) in nats, `[number of documents]`.

    Windows of similar length share a batch of at most `batch_tokens` (or one window); they are padded on the right,
    which a causal model cannot see. Raises ValueError for a context of fewer than two tokens.
    """
    tokenized = list(documents)
    windows = [w for i, ids in enumerate(tokenized) for w in _windows(i, ids, eod_token_id, context_tokens)]
    nats = np.zeros(len(tokenized))
    for batch in _batches(windows, batch_tokens):
        scores = log_probabilities(_pad(batch, eod_token_id))
        for window, row in zip(batch, scores, strict=True):
            end = len(window.ids) - 1
            nats[window.document] -= np.sum(row[end - window.scored : end], dtype=np.float64)
    return nats


def bits_per_byte(nats: float, size_bytes: int) -> float:
    """Nats of a text over its size; raises ValueError without text."""
    if not size_bytes:
        raise ValueError("bits per byte of no text")
    return nats / math.log(2) / size_bytes


def _windows(document: int, ids: list[int], eod_token_id: int, context_tokens: int) -> Iterator[Window]:
    if context_tokens < 2:
        raise ValueError(f"a context of {context_tokens} tokens shows the model nothing: use 2 or more")
    tokens = np.asarray(ids, dtype=np.int64)
    if len(tokens):
        yield Window(document, np.array([eod_token_id, tokens[0]]), scored=1)
    stride, done, start = max(context_tokens // 2, 1), 1, 0
    while done < len(tokens):
        end = min(start + context_tokens, len(tokens))
        yield Window(document, tokens[start:end], end - done)
        start, done = start + stride, end


def _batches(windows: list[Window], batch_tokens: int) -> Iterator[list[Window]]:
    batch: list[Window] = []
    for window in sorted(windows, key=lambda w: len(w.ids)):
        if batch and (len(batch) + 1) * len(window.ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _pad(batch: list[Window], filler: int) -> npt.NDArray[np.int64]:
    padded = np.full((len(batch), max(len(window.ids) for window in batch)), filler, dtype=np.int64)
    for row, window in zip(padded, batch, strict=True):
        row[: len(window.ids)] = window.ids
    return padded
