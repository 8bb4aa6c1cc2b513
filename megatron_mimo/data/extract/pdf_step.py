"""Step `extract_pdf`: documents that are PDF files -> Markdown; all others pass unchanged."""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import fsspec

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document
from megatron_mimo.data.extract.pdf import PdfError, read_pdf
from megatron_mimo.data.pipeline.step import Task

MEDIA_TYPE = "application/pdf"


@dataclass(kw_only=True)
class ExtractPdf:
    """Turn documents with `metadata["media_type"] == "application/pdf"` into Markdown.

    A document's text is a string, so the file itself comes in the metadata: `content_base64` holds its bytes, or `path`
    names it (a local path or any address fsspec opens). Drops: `encrypted`, `broken`, `no text`, `timeout`, `too
    large`; a file that cannot be read at all is a fault.
    """

    name: ClassVar[str] = "extract_pdf"

    timeout_seconds: float = 30.0
    """Processor time for one file, looked at after every page."""
    max_bytes: int = 200_000_000
    """Larger files are dropped unread."""

    def __post_init__(self) -> None:
        if not self.timeout_seconds > 0:
            raise ConfigError("timeout_seconds", self.timeout_seconds, "give a number of seconds above 0")
        if self.max_bytes < 1:
            raise ConfigError("max_bytes", self.max_bytes, "give a number of bytes above 0")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Yield PDFs as Markdown and everything else as it is."""
        for document in documents:
            if document.metadata.get("media_type") != MEDIA_TYPE:
                yield document
            elif self._convert(document, task):
                task.sample(f"{self.name}/kept", document)
                yield document

    def _convert(self, document: Document, task: Task) -> bool:
        """Put the file's text in the document; False when it was dropped."""
        try:
            data = read_content(document, self.max_bytes + 1)
        except (OSError, ValueError) as error:
            task.fault(self.name, document.id, error)
            return self._drop(document, task, "fault")
        if len(data) > self.max_bytes:
            return self._drop(document, task, "too large")
        try:
            found = read_pdf(data, self.timeout_seconds)
        except PdfError as error:
            return self._drop(document, task, error.reason)
        except Exception as error:  # one odd file must not end the run
            task.fault(self.name, document.id, error)
            return self._drop(document, task, "fault")
        document.text = found.text
        document.metadata["media_type"] = "text/markdown"
        task.count(f"{self.name}/pages", found.pages)
        for doubt, number in (("pages of unsure order", found.unsure_pages), ("pages unread", found.unread_pages)):
            if number:
                document.metadata[doubt.replace(" ", "_")] = number
                task.count(f"{self.name}/{doubt}", number)
        document.metadata.pop("content_base64", None)
        task.count(f"{self.name}/characters", len(document.text))
        return True

    def _drop(self, document: Document, task: Task, reason: str) -> bool:
        document.metadata.pop("content_base64", None)
        task.drop(document, self.name, reason)
        return False


def read_content(document: Document, limit_bytes: int) -> bytes:
    """At most `limit_bytes` of the document's file. Raises ValueError or OSError when there is none."""
    content = document.metadata.get("content_base64")
    if content is not None:
        try:
            return base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise ValueError(f"content_base64 is not base64: {error}") from error
    path = document.metadata.get("path")
    if not path:
        raise ValueError("a PDF document needs metadata content_base64 or path")
    with fsspec.open(path, "rb") as file:
        return file.read(limit_bytes)  # type: ignore[attr-defined]
