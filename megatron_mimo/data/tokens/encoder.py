"""Token ids of many texts as flat arrays: by fastokens where it gives exactly what `tokenizers` gives, else by that.

Whether it does is asked of some hundred hard texts when the tokenizer is loaded, and of one document in a thousand
from then on.

`n` documents, `t` tokens with the end-of-document tokens among them.
"""

import functools
import itertools
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from megatron_mimo.data.nano.probe_texts import probe_texts
from megatron_mimo.data.tokens.tokenizer import encode_documents, eod_token_id, load_tokenizer

CHECKED_ONE_IN = 1000
"""Documents to a spot check. `tokenizers` takes about 40 times fastokens' time, so that a check costs 4 % more."""


@dataclass(frozen=True)
class TokenBlock:
    """Token ids of documents one behind another, each with its end-of-document token."""

    ids: np.ndarray
    """[t], uint16 or int32 by the size of the vocabulary."""
    lengths: np.ndarray
    """[n] int32."""


class Encoder:
    """A tokenizer folder, ready to encode. Text that looks like a special token stays text."""

    def __init__(self, folder: str | Path, fast: bool = True) -> None:
        """Load the tokenizer; raises UserError as `load_tokenizer`. `fast=False` never uses fastokens."""
        self.tokenizer = load_tokenizer(folder)
        self.vocab_size = vocabulary_size(self.tokenizer)
        self.dtype = token_dtype(self.vocab_size)
        self.notice = ""
        """Why fastokens is not used; empty when it is, or was not asked for."""
        self.differing_blocks = 0
        """Calls of `encode` in which a spot check found a difference; `tokenizers` encoded these."""
        self.eod_token_id = eod_token_id(self.tokenizer)
        self._fast: Any = None
        if fast:
            self._fast, self.notice = _load_fastokens(self.tokenizer, Path(folder) / "tokenizer.json")

    @property
    def library(self) -> str:
        """The library that encodes."""
        return "tokenizers" if self._fast is None else "fastokens"

    def encode(self, texts: Sequence[str]) -> TokenBlock:
        """Encode n texts, each with the end-of-document token behind; warns where a spot check finds a difference."""
        if self._fast is None or not texts:
            return self._encode_exactly(texts)
        block = self._encode_fast(texts)
        differing = self._spot_check(texts, block)
        if differing is None:
            return block
        self.differing_blocks += 1
        warnings.warn(
            f"fastokens differs from tokenizers on the document {differing[:60]!r}: its block of {len(texts)} documents"
            " is encoded by tokenizers. Blocks whose spot checks found nothing may still differ somewhere: where every"
            " token counts, uninstall fastokens and tokenize again into an empty folder",
            stacklevel=2,
        )
        return self._encode_exactly(texts)

    def _spot_check(self, texts: Sequence[str], block: TokenBlock) -> str | None:
        """The first of the checked documents that `tokenizers` encodes differently, if any."""
        ends = np.cumsum(block.lengths, dtype=np.int64)
        checked = [number for number, text in enumerate(texts) if _is_checked(text)]
        expected = encode_documents(self.tokenizer, [texts[number] for number in checked])
        for number, ids in zip(checked, expected, strict=True):
            if block.ids[ends[number] - block.lengths[number] : ends[number]].tolist() != ids:
                return texts[number]
        return None

    def _encode_exactly(self, texts: Sequence[str]) -> TokenBlock:
        all_ids = encode_documents(self.tokenizer, texts)
        lengths = np.fromiter(map(len, all_ids), dtype=np.int32, count=len(all_ids))
        flat = np.fromiter(itertools.chain.from_iterable(all_ids), dtype=self.dtype, count=int(lengths.sum()))
        return TokenBlock(flat, lengths)

    def _encode_fast(self, texts: Sequence[str]) -> TokenBlock:
        flat, bounds = _flat(self._fast, texts)
        ends = bounds[1:] + np.arange(len(texts))
        ids = np.empty(len(flat) + len(texts), dtype=self.dtype)
        is_text = np.ones(len(ids), dtype=bool)
        is_text[ends] = False
        ids[is_text] = flat
        ids[ends] = self.eod_token_id
        return TokenBlock(ids, (np.diff(bounds) + 1).astype(np.int32))


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest token id: the rows an embedding needs. Some vocabularies have holes."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def token_dtype(vocab_size: int) -> np.dtype:
    """Megatron's rule: uint16 for vocabularies below 65 500 tokens, int32 above."""
    return np.dtype(np.uint16 if vocab_size < 65_500 else np.int32)


def _is_checked(text: str) -> bool:
    """By the text alone, so that what is written does not depend on workers or interruptions."""
    return zlib.crc32(text[-256:].encode(), len(text)) % CHECKED_ONE_IN == 0


@functools.lru_cache(maxsize=1)
def shared_encoder(folder: Path, sha256: str) -> Encoder:
    """The encoder of this process; `sha256` of tokenizer.json, so that a replaced file is loaded anew."""
    return Encoder(folder)


def _load_fastokens(reference: Tokenizer, path: Path) -> tuple[Any, str]:
    """fastokens' tokenizer and an empty text, or None and the reason why it cannot stand in for the reference."""
    try:
        from fastokens import Tokenizer as FastTokenizer
    except ImportError:
        return None, "fastokens is not installed: encoding with the slower tokenizers library (pip install fastokens)"
    try:
        fast = FastTokenizer.from_file(str(path))
        difference = _first_difference(probe_texts(), reference, functools.partial(_flat, fast))
    except Exception as error:  # fastokens refuses what it does not support in several ways
        return None, f"fastokens cannot read this tokenizer ({error}): encoding with the slower tokenizers library"
    if difference is None:
        return fast, ""
    return None, f"fastokens differs from tokenizers on {difference[:60]!r}: encoding with the slower tokenizers"


def _flat(fast: Any, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all texts, uint32, and the n + 1 bounds between them, int64."""
    ids, bounds = fast.encode_batch_flat(list(texts), split_special_tokens=True)
    return np.frombuffer(ids, dtype=np.uint32), np.frombuffer(bounds, dtype=np.uint64).astype(np.int64)


def _first_difference(
    texts: Iterable[str], reference: Tokenizer, flat: Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]
) -> str | None:
    """The first text that the two encode differently, if any."""
    texts = list(texts)
    ids, bounds = flat(texts)
    expected = encode_documents(reference, texts)
    for text, start, end, document in zip(texts, bounds, bounds[1:], expected, strict=False):
        if ids[start:end].tolist() != document[:-1]:
            return text
    return None
