"""PDF files, a document each without text: a later step extracts it."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.files import InputFile, is_remote
from megatron_mimo.data.pipeline.readers.base import FileReader
from megatron_mimo.data.pipeline.step import Task


@dataclass(kw_only=True)
class PdfReader(FileReader):
    """A local file is named (`metadata["path"]`), a remote one carried (`metadata["content_base64"]`)."""

    def read_file(self, file: InputFile, stream: BinaryIO, task: Task) -> Iterator[Document]:
        head = stream.read(1024)
        if b"%PDF-" not in head:
            task.fault(self.name, file.path, "not a PDF: no %PDF- in its first 1024 bytes")
        elif file.size_bytes > self.max_record_bytes:
            self.oversize(file.path, file.size_bytes, task)
        elif is_remote(file.path):
            yield pdf_document(file.name, head + stream.read())
        else:
            metadata = {"media_type": "application/pdf", "path": file.path}
            yield Document(file.name, "", metadata=metadata)


def pdf_document(identifier: str, data: bytes, url: str = "") -> Document:
    """A PDF carried inside its document."""
    content = base64.b64encode(data).decode("ascii")
    return Document(identifier, "", url=url, metadata={"media_type": "application/pdf", "content_base64": content})
