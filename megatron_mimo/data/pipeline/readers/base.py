"""What all readers of files share: which files, how large a record may be, and how faults are reported."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, ClassVar, Protocol

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.decompression import BrokenStream
from megatron_mimo.data.pipeline.files import InputFile, list_files, listed_files, open_file
from megatron_mimo.data.pipeline.step import Task


class Reader(Protocol):
    """A dataclass whose fields are its options."""

    def list(self) -> "list[InputFile]":
        """The inputs, in a fixed order; called once, when the pipeline starts."""
        ...

    def code(self) -> str:
        """What else decides the documents: code and versions that differ between installations."""
        ...

    def read(self, files: "list[InputFile]", task: Task) -> Iterator[Document]:
        """The documents of a task's share of the inputs; never raises for what is wrong with a file."""
        ...


@dataclass(kw_only=True)
class FileReader:
    """Files by patterns (`**` descends) or by a list, on this machine or behind fsspec (`s3://...`)."""

    files: list[str] = field(default_factory=list)
    """Paths or patterns."""
    paths_file: str | None = None
    """A text file that names the files instead, one a line, as Common Crawl's `warc.paths.gz`."""
    prefix: str = ""
    """Put before every line of `paths_file`."""
    storage_options: dict = field(default_factory=dict)
    """For fsspec: endpoint, anonymous access."""
    source: str = ""
    """Source of the mixture that the documents belong to."""
    max_record_bytes: int = 50_000_000
    """Larger records are counted as faults and passed over."""

    name: ClassVar[str] = "read"

    def __post_init__(self) -> None:
        if bool(self.files) == (self.paths_file is not None):
            raise ConfigError("files", self.files, "give either files or paths_file")
        if self.max_record_bytes < 1:
            raise ConfigError("max_record_bytes", self.max_record_bytes, "must be at least 1")

    def list(self) -> "list[InputFile]":
        if self.paths_file is not None:
            return listed_files(self.paths_file, self.prefix)
        return list_files(self.files, self.storage_options)

    def code(self) -> str:
        return ""

    def read(self, files: "list[InputFile]", task: Task) -> Iterator[Document]:
        for file in files:
            task.count(f"{self.name}/files")
            try:
                with open_file(file.path, self.storage_options) as stream:
                    for document in self.read_file(file, stream, task):
                        document.source = document.source or self.source
                        task.count(f"{self.name}/documents")
                        yield document
            except BrokenStream as error:
                task.fault(self.name, f"{file.path}:{error.offset}", error)
            except (OSError, EOFError, zlib.error) as error:
                task.fault(self.name, file.path, error)

    def read_file(self, file: InputFile, stream: BinaryIO, task: Task) -> Iterator[Document]:
        """The documents of one open file."""
        raise NotImplementedError

    def oversize(self, place: str, size_bytes: int | None, task: Task) -> None:
        """Take note of a record that is too large."""
        size = "it is" if size_bytes is None else f"{size_bytes} bytes are"
        task.count(f"{self.name}/oversize")
        task.fault(self.name, place, f"{size} more than max_record_bytes={self.max_record_bytes}")


def text_of(data: bytes, place: str, task: Task) -> str:
    """UTF-8 with replacement characters for what is none: counted as a fault, and the text continues."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        task.count("read/invalid_utf8")
        task.fault("read", place, f"invalid UTF-8 at byte {error.start}; replaced")
        return data.decode(errors="replace")
