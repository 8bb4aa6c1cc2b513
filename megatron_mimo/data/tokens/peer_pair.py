"""One `.bin/.idx` pair that another program wrote: its index checked, its tokens measured, a copy with EOD tokens.

The layout is in `indexed.py`. A document is one or several sequences in a row; an index without document bounds (no
`end_document` was called) makes each sequence a document, as megatron-core's GPT data set does. The tokens are read
once, some documents at a time: memory does not grow with the pair.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from megatron_mimo.config import UserError
from megatron_mimo.data.tokens.encoder import TokenBlock
from megatron_mimo.data.tokens.indexed import HEADER, map_tokens, read_index_header
from megatron_mimo.data.tokens.indexed_writer import IndexedWriter
from megatron_mimo.platform.files import file_sha256

WAY_OUT = "\nNothing was changed. Get the pair again from where it came, or leave it out."
BLOCK_DOCUMENTS = 65_536
BLOCK_TOKENS = 16_000_000
"""A block of documents is full at either limit; a longer document is its own block."""


@dataclass(kw_only=True)
class PairFacts:
    """What was measured of a pair."""

    dtype: str
    sequences: int
    documents: int
    empty_documents: int
    tokens: int
    sha256: dict[str, str]
    """Checksums of the two files: bin, idx."""
    ended_documents: int
    """Documents whose last token is the EOD token."""
    eod_tokens: int
    """EOD tokens at any place."""
    usual_end: int
    """The most frequent last token of documents."""
    usual_end_documents: int
    """Documents that end with it."""
    first_unended: int | None
    """Number of the first document that is not empty and lacks the EOD token."""
    marks_documents: bool
    """Whether the index has document bounds."""

    @property
    def unended_documents(self) -> int:
        """Documents that are not empty and do not end with the EOD token."""
        return self.documents - self.empty_documents - self.ended_documents


@dataclass(frozen=True)
class Block:
    """Documents in a row."""

    first_document: int
    start: int
    """Place of its first token in the pair."""
    ends: np.ndarray
    """Places after the last token of each document, int64."""

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.ends, prepend=self.start)


class PeerPair:
    """The pair `PREFIX.bin`, `PREFIX.idx`."""

    def __init__(self, prefix: Path) -> None:
        """Read the index; raises UserError where it is missing, foreign, damaged, empty or of several modalities."""
        self.prefix, self.idx = prefix, Path(f"{prefix}.idx")
        header = read_index_header(self.idx, WAY_OUT)
        if not Path(f"{prefix}.bin").is_file():
            raise UserError(f"{prefix}.bin is missing.{WAY_OUT}")
        self.dtype, self.sequences = header.dtype, header.num_sequences
        if not self.sequences or not Path(f"{prefix}.bin").stat().st_size:
            raise UserError(f"{prefix}.bin holds no tokens: leave the pair out.")
        raw = np.memmap(self.idx, dtype=np.uint8, mode="r")
        bounds = HEADER.size + 12 * self.sequences
        self._lengths = raw[HEADER.size : HEADER.size + 4 * self.sequences].view(np.int32)
        self._pointers = raw[HEADER.size + 4 * self.sequences : bounds].view(np.int64)
        self._bounds = raw[bounds : header.modes_offset].view(np.int64)
        self.marks_documents = header.num_bounds > 1
        self.documents = header.num_bounds - 1 if self.marks_documents else self.sequences
        self._check_modes(raw[header.modes_offset :])

    @cached_property
    def tokens(self) -> np.ndarray:
        """All tokens, mapped into memory."""
        return map_tokens(self.prefix, self.dtype)

    def bounds(self, first: int, last: int) -> np.ndarray:
        """Numbers of the sequences that documents `first` to `last` begin with, the one after the last included."""
        if not self.marks_documents:
            return np.arange(first, last + 1)
        return np.array(self._bounds[first : last + 1])

    def start_of(self, document: int) -> int:
        """Place of the first token of a document; of the one after the last, the number of tokens."""
        sequence = int(self.bounds(document, document)[0])
        if sequence == self.sequences:
            return len(self.tokens)
        return int(self._pointers[sequence]) // self.dtype.itemsize

    def blocks(self) -> Iterator[Block]:
        """All documents in blocks; raises UserError where the index contradicts itself or the size of `.bin`."""
        place = 0
        for first in range(0, self.documents, BLOCK_DOCUMENTS):
            ends = self._ends(first, min(first + BLOCK_DOCUMENTS, self.documents), place)
            while len(ends):
                count = max(1, int(np.searchsorted(ends, place + BLOCK_TOKENS, side="right")))
                yield Block(first, place, ends[:count])
                first, place, ends = first + count, int(ends[count - 1]), ends[count:]
        if self.marks_documents and int(self._bounds[-1]) != self.sequences:
            raise self._broken(f"its last document ends before sequence {self._bounds[-1]} of {self.sequences}")

    def measure(self, vocab_size: int, eod: int, beat: Callable[[int], None] = lambda tokens: None) -> PairFacts:
        """Read the pair once; `beat` takes the number of tokens read now and then.

        Raises UserError where it is damaged, or holds token ids outside `range(vocab_size)`.
        """
        sha256, ends_with, outside = hashlib.sha256(), Counter[int](), _Outside(vocab_size)
        empty = eod_tokens = 0
        first_unended = None
        self._check_size()
        for block in self.blocks():
            tokens = self.tokens[block.start : block.ends[-1]]
            sha256.update(np.ascontiguousarray(tokens).data)
            outside.look(tokens, block)
            eod_tokens += int(np.count_nonzero(tokens == eod))
            filled = np.flatnonzero(block.lengths)
            last = tokens[block.ends[filled] - 1 - block.start]
            ends, counts = np.unique(last, return_counts=True)
            ends_with.update(dict(zip(ends.tolist(), counts.tolist(), strict=True)))
            empty += len(block.ends) - len(filled)
            if first_unended is None and (last != eod).any():
                first_unended = block.first_document + int(filled[np.argmax(last != eod)])
            beat(len(tokens))
        outside.refuse(self.prefix, len(self.tokens))
        ((usual_end, usual_end_documents),) = ends_with.most_common(1)
        return PairFacts(
            dtype=self.dtype.name,
            sequences=self.sequences,
            documents=self.documents,
            empty_documents=empty,
            tokens=len(self.tokens),
            sha256={"bin": sha256.hexdigest(), "idx": file_sha256(self.idx)},
            ended_documents=ends_with[eod],
            eod_tokens=eod_tokens,
            usual_end=usual_end,
            usual_end_documents=usual_end_documents,
            first_unended=first_unended,
            marks_documents=self.marks_documents,
        )

    def copy_with_eod(self, target: Path, vocab_size: int, eod: int) -> None:
        """Write the pair `target` with the EOD token after every document that lacks it, and without empty documents.

        A document is one sequence there. The ids must be inside the vocabulary (`measure`).
        """
        writer = IndexedWriter(target, vocab_size)
        for block in self.blocks():
            tokens, filled = self.tokens[block.start : block.ends[-1]], block.lengths > 0
            ends = block.ends[filled] - block.start
            lacking = tokens[ends - 1] != eod
            with_eod = np.insert(tokens.astype(np.int64), ends[lacking], eod)
            writer.add(TokenBlock(with_eod, (block.lengths[filled] + lacking).astype(np.int32)), 0)
        writer.finish()

    def _ends(self, first: int, last: int, place: int) -> np.ndarray:
        """Places after the last tokens of documents `first` to `last` - 1, the first of which begins at `place`."""
        bounds = self.bounds(first, last)
        if (np.diff(bounds) < 0).any() or bounds[-1] > self.sequences or (first == 0 and bounds[0] != 0):
            raise self._broken(f"the documents {first} to {last - 1} do not follow one another")
        lengths = self._lengths[bounds[0] : bounds[-1]]
        if (lengths < 0).any():
            raise self._broken(f"sequence {bounds[0] + int(np.argmax(lengths < 0))} has a negative length")
        starts = place + np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        off = starts[:-1] * self.dtype.itemsize != self._pointers[bounds[0] : bounds[-1]]
        if off.any():
            raise self._broken(
                f"sequence {bounds[0] + int(np.argmax(off))} does not begin where the one before it ends: its"
                " sequences are not all of the .bin file in order"
            )
        return starts[bounds[1:] - bounds[0]]

    def _check_size(self) -> None:
        expected = int(self._lengths.sum(dtype=np.int64)) * self.dtype.itemsize
        found = Path(f"{self.prefix}.bin").stat().st_size
        if found != expected:
            what = "truncated" if found < expected else "longer than it should be"
            raise UserError(f"{self.prefix}.bin is {what}: {found} bytes, its index says {expected}.{WAY_OUT}")

    def _check_modes(self, modes: np.ndarray) -> None:
        """Text is modality 0; raises UserError where there is another one."""
        other = np.flatnonzero(modes)
        if len(other):
            raise UserError(
                f"{self.idx} is of a multimodal data set: {len(other)} of its {self.sequences} sequences are not text"
                f" (modality 0); the first is sequence {other[0]}, of modality {modes.view(np.int8)[other[0]]}. Only"
                " text can be trained: write the text alone into a pair of its own"
            )

    def _broken(self, reason: str) -> UserError:
        return UserError(f"{self.idx} is damaged: {reason}.{WAY_OUT}")


class _Outside:
    """Token ids that the vocabulary does not have: how many, and where the first is."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size, self._count, self._first = vocab_size, 0, ""

    def look(self, tokens: np.ndarray, block: Block) -> None:
        if not len(tokens) or (int(tokens.min()) >= 0 and int(tokens.max()) < self._vocab_size):
            return
        places = np.flatnonzero((tokens < 0) | (tokens >= self._vocab_size))
        if not self._count:
            place = block.start + int(places[0])
            document = block.first_document + int(np.searchsorted(block.ends, place, side="right"))
            self._first = f"the first is {tokens[places[0]]}, token {place:,} of the file, in document {document:,}"
        self._count += len(places)

    def refuse(self, prefix: Path, tokens: int) -> None:
        if self._count:
            raise UserError(
                f"{prefix}.bin holds token ids that the tokenizer does not have: {self._count:,} of its {tokens:,}"
                f" tokens are outside 0 to {self._vocab_size - 1}; {self._first}.\nName the tokenizer that the pair was"
                " made with, or leave the pair out"
            )
