"""Writing Megatron's `.bin/.idx` pairs from arrays: under temporary names, renamed when complete.

The layout is in `indexed.py`. A document is one sequence, as megatron-core's `IndexedDatasetBuilder.add_document` makes
it; the files are byte for byte the ones it writes.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from megatron_mimo.data.tokens.encoder import TokenBlock, token_dtype
from megatron_mimo.data.tokens.indexed import DTYPES, HEADER, MAGIC, read_index_header
from megatron_mimo.data.tokens.manifest import SplitEntry
from megatron_mimo.platform.files import file_sha256

COPIED_BYTES = 16 * 2**20
_CODES = {dtype: code for code, dtype in DTYPES.items()}


class IndexedWriter:
    """One `.bin/.idx` pair in the making; nothing carries the final name before `finish`.

    Memory: 4 bytes per document until `finish`, 20 there.
    """

    def __init__(self, prefix: Path, vocab_size: int) -> None:
        """Open the files; raises OSError where the folder cannot be written."""
        self.prefix = prefix
        self._temporary = {kind: prefix.with_name(f"{prefix.name}.{kind}.tmp") for kind in ("bin", "idx")}
        self._dtype = token_dtype(vocab_size)
        prefix.parent.mkdir(parents=True, exist_ok=True)
        self._bin = self._temporary["bin"].open("wb")
        self._sha256 = hashlib.sha256()
        self._lengths: list[np.ndarray] = []
        self._tokens = self._bytes = 0

    def add(self, block: TokenBlock, text_bytes: int) -> None:
        """Append documents; `text_bytes` is the size of their texts in UTF-8."""
        self._write(block.ids.astype(self._dtype, copy=False).data)
        self._count(block.lengths, len(block.ids), text_bytes)

    def append(self, folder: Path, entry: SplitEntry) -> None:
        """Append a finished pair of the same vocabulary; `entry` describes it."""
        prefix = folder / entry.prefix
        header = read_index_header(Path(f"{prefix}.idx"))
        lengths = np.fromfile(f"{prefix}.idx", dtype=np.int32, count=header.num_sequences, offset=HEADER.size)
        with open(f"{prefix}.bin", "rb") as source:
            while piece := source.read(COPIED_BYTES):
                self._write(piece)
        self._count(lengths, entry.tokens, entry.bytes or 0)

    def _write(self, raw: bytes | memoryview) -> None:
        self._bin.write(raw)
        self._sha256.update(raw)

    def _count(self, lengths: np.ndarray, tokens: int, text_bytes: int) -> None:
        self._lengths.append(lengths)
        self._tokens += tokens
        self._bytes += text_bytes

    def finish(self) -> SplitEntry:
        """Write the index, give both files their names and return the manifest's entry."""
        self._bin.close()
        lengths = np.concatenate([np.empty(0, dtype=np.int32), *self._lengths])
        self._write_index(lengths)
        sha256 = {"bin": self._sha256.hexdigest(), "idx": file_sha256(self._temporary["idx"])}
        for kind, path in self._temporary.items():
            os.replace(path, f"{self.prefix}.{kind}")
        return SplitEntry(
            prefix=self.prefix.name, documents=len(lengths), tokens=self._tokens, bytes=self._bytes, sha256=sha256
        )

    def _write_index(self, lengths: np.ndarray) -> None:
        """`lengths`: [number of documents] int32."""
        ends = np.cumsum(lengths, dtype=np.int64) * self._dtype.itemsize
        with self._temporary["idx"].open("wb") as index:
            index.write(HEADER.pack(MAGIC, 1, _CODES[self._dtype], len(lengths), len(lengths) + 1))
            index.write(lengths.data)
            index.write((ends - lengths.astype(np.int64) * self._dtype.itemsize).data)
            index.write(np.arange(len(lengths) + 1, dtype=np.int64).data)
