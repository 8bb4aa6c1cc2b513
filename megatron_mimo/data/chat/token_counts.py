"""How often each token of a vocabulary occurs in texts: in answers of chat data, plain texts, tokenized data."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from megatron_mimo.config import UserError
from megatron_mimo.data.chat.conversation import read_conversation
from megatron_mimo.data.chat.record_forms import BadRecord
from megatron_mimo.data.chat.records import read_records
from megatron_mimo.data.tokens.manifest import check_tokenizer, open_split, read_manifest
from megatron_mimo.data.tokens.tokenizer import load_tokenizer

BATCH_TEXTS = 1024
"""Encoded together."""
BATCH_TOKENS = 1 << 24


def count_chat_tokens(paths: Sequence[Path], tokenizer_folder: Path, vocab_size: int) -> np.ndarray:
    """int64 [vocab_size] of what the assistant says in these files of conversations, and of plain texts.

    Raises UserError for a file without any, and for records that are neither.
    """
    tokenizer, counts = load_tokenizer(tokenizer_folder), np.zeros(vocab_size, dtype=np.int64)
    for path in paths:
        found = False
        for batch in _batches(_answers(path)):
            encoded = tokenizer.encode_batch(batch, add_special_tokens=False)
            counts += _count([token for one in encoded for token in one.ids], vocab_size, str(path))
            found = True
        if not found:
            raise UserError(f"{path} holds no text: there is nothing to count")
    return counts


def count_data_tokens(folder: Path, tokenizer_folder: Path, vocab_size: int) -> np.ndarray:
    """The same of all training documents of a data folder (megatron-mimo data), by the same tokenizer."""
    manifest, counts = read_manifest(folder), np.zeros(vocab_size, dtype=np.int64)
    check_tokenizer(manifest, folder, tokenizer_folder)
    for source in manifest.sources.values():
        if not source.train.tokens:
            continue
        for piece in open_split(folder, source, "train").pieces:
            for start in range(0, len(piece), BATCH_TOKENS):
                counts += _count(piece[start : start + BATCH_TOKENS], vocab_size, str(folder))
    return counts


def _answers(path: Path) -> Iterator[str]:
    for place, record in read_records(path):
        if isinstance(record, Exception):
            raise UserError(f"{place} is not JSON: {record}")
        try:
            conversation = read_conversation(record)
        except BadRecord as error:
            raise UserError(f"{place}: {error}; each line is a conversation, or has a `text`") from error
        if conversation.text is not None:
            yield conversation.text
        for message in conversation.messages:
            if message.role == "assistant" and message.content:
                yield message.content


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH_TEXTS:
            yield batch
            batch = []
    if batch:
        yield batch


def _count(tokens: Sequence[int] | np.ndarray, vocab_size: int, place: str) -> np.ndarray:
    counts = np.bincount(np.asarray(tokens, dtype=np.int64), minlength=vocab_size)
    if len(counts) > vocab_size:
        raise UserError(f"{place} has token {len(counts) - 1}, and the model knows {vocab_size}: another tokenizer")
    return counts
