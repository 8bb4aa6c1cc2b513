"""Writing Megatron's `.bin/.idx` pairs: under temporary names, renamed when complete."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

from megatron_mimo.data.manifest import SplitEntry
from megatron_mimo.platform.files import file_sha256


class IndexedWriter:
    """One `.bin/.idx` pair in the making, a sequence a document; nothing carries the final name before `finish`."""

    def __init__(self, prefix: Path, vocab_size: int) -> None:
        self.prefix = prefix
        self._temporary = {kind: prefix.with_name(f"{prefix.name}.{kind}.tmp") for kind in ("bin", "idx")}
        self._dtype = DType.optimal_dtype(vocab_size)
        self._builder = IndexedDatasetBuilder(str(self._temporary["bin"]), dtype=self._dtype)
        self._documents = self._tokens = self._bytes = 0

    def add(self, token_ids: Sequence[int], text_bytes: int) -> None:
        """Append one document, EOD token included; `text_bytes` is the size of its text in UTF-8."""
        self._builder.add_document(np.asarray(token_ids, dtype=self._dtype), [len(token_ids)])  # type: ignore[arg-type]
        self._documents += 1
        self._tokens += len(token_ids)
        self._bytes += text_bytes

    def finish(self) -> SplitEntry:
        """Write the index, give both files their names and return the manifest's entry."""
        self._builder.finalize(str(self._temporary["idx"]))
        sha256 = {kind: file_sha256(path) for kind, path in self._temporary.items()}
        for kind, path in self._temporary.items():
            os.replace(path, f"{self.prefix}.{kind}")
        return SplitEntry(
            prefix=self.prefix.name, documents=self._documents, tokens=self._tokens, bytes=self._bytes, sha256=sha256
        )
