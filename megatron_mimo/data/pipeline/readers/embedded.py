"""The embedded corpus of the quick start as a reader: raw, with its repetitions, in the order it is generated."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document
from megatron_mimo.data.nano import corpus
from megatron_mimo.data.pipeline.files import InputFile
from megatron_mimo.data.pipeline.step import Task


@dataclass(kw_only=True)
class EmbeddedReader:
    """One source of `megatron_mimo.data.nano.corpus` (text, code, arithmetic, ...), made by a single task."""

    source: str

    def __post_init__(self) -> None:
        if self.source not in corpus.EMBEDDED_SOURCES:
            raise ConfigError("source", self.source, f"must be one of {', '.join(corpus.EMBEDDED_SOURCES)}")

    def list(self) -> "list[InputFile]":
        return [InputFile(f"embedded:{self.source}", self.source, 0)]

    def code(self) -> str:
        """The generators' version and the Python whose library they read."""
        return f"content {corpus.CONTENT_VERSION}, Python {platform.python_version()}"

    def read(self, files: "list[InputFile]", task: Task) -> Iterator[Document]:
        for _ in files:
            for document in corpus.EMBEDDED_SOURCES[self.source][1]():
                task.count("read/documents")
                document.source = self.source
                yield document
