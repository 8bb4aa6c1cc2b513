"""HTML files, a document each: its text is the decoded page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.files import InputFile
from megatron_mimo.data.pipeline.readers.base import FileReader
from megatron_mimo.data.pipeline.readers.decoding import decode_page
from megatron_mimo.data.pipeline.step import Task


@dataclass(kw_only=True)
class HtmlReader(FileReader):
    """Also plain text and Markdown, with `media_type: text/plain`."""

    media_type: str = "text/html"

    def read_file(self, file: InputFile, stream: BinaryIO, task: Task) -> Iterator[Document]:
        data = stream.read(self.max_record_bytes + 1)
        if len(data) > self.max_record_bytes:
            self.oversize(file.path, None, task)
            return
        yield Document(file.name, decode_page(data, task), metadata={"media_type": self.media_type})
