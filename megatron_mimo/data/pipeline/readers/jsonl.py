"""JSON lines (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`): a document a line."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.decompression import decompressed_lines
from megatron_mimo.data.pipeline.files import InputFile
from megatron_mimo.data.pipeline.readers.base import FileReader, text_of
from megatron_mimo.data.pipeline.step import Task


@dataclass(kw_only=True)
class JsonlReader(FileReader):
    """Lines with a text; other fields go to the metadata."""

    text_field: str = "text"
    id_field: str | None = None
    """Field of the id; null makes it `file:byte offset`."""
    url_field: str = "url"

    def read_file(self, file: InputFile, stream: BinaryIO, task: Task) -> Iterator[Document]:
        for offset, line in decompressed_lines(stream, self.max_record_bytes):
            place = f"{file.path}:{offset}"
            if line is None:
                self.oversize(place, None, task)
            elif line.strip():
                try:
                    record = msgspec.json.decode(text_of(line, place, task))
                    yield document_of(record, f"{file.name}:{offset}", self.text_field, self.id_field, self.url_field)
                except (msgspec.DecodeError, ValueError) as error:
                    task.fault(self.name, place, error)


def document_of(record: Any, identifier: str, text_field: str, id_field: str | None, url_field: str) -> Document:
    """The document of a record of named values; raises ValueError where it has no text."""
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    text = record.pop(text_field, None)
    if not isinstance(text, str):
        raise ValueError(f"no text in the field {text_field!r}")
    if id_field is not None:
        if record.get(id_field) is None:
            raise ValueError(f"no id in the field {id_field!r}")
        identifier = str(record.pop(id_field))
    return Document(identifier, text, url=str(record.pop(url_field, None) or ""), metadata=record)
