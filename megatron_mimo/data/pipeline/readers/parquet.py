"""Parquet files, read by row groups: memory is that of one batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.files import InputFile
from megatron_mimo.data.pipeline.readers.base import FileReader
from megatron_mimo.data.pipeline.readers.jsonl import document_of
from megatron_mimo.data.pipeline.step import Task

ROWS_AT_ONCE = 256


@dataclass(kw_only=True)
class ParquetReader(FileReader):
    """A document a row."""

    text_field: str = "text"
    id_field: str | None = None
    """Column of the id; null makes it `file:row`."""
    url_field: str = "url"
    columns: list[str] | None = None
    """Columns that go to the metadata; null takes none."""

    def read_file(self, file: InputFile, stream: BinaryIO, task: Task) -> Iterator[Document]:
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise UserError("the parquet reader needs pyarrow: pip install pyarrow") from error
        try:
            table = pyarrow.parquet.ParquetFile(stream)
            present = set(table.schema_arrow.names)
        except pyarrow.ArrowException as error:
            task.fault(self.name, file.path, error)
            return
        columns = [name for name in self._columns() if name in present]
        first_row = 0
        for group in range(table.num_row_groups):
            try:
                yield from self._row_group(table, group, columns, first_row, file, task)
            except (pyarrow.ArrowException, OSError) as error:
                task.fault(self.name, f"{file.path}: row group {group}", error)
            first_row += table.metadata.row_group(group).num_rows

    def _columns(self) -> list[str]:
        wanted = [self.text_field, self.id_field, self.url_field, *(self.columns or [])]
        return [name for name in dict.fromkeys(wanted) if name is not None]

    def _row_group(
        self, table: "object", group: int, columns: list[str], row: int, file: InputFile, task: Task
    ) -> Iterator[Document]:
        for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):  # type: ignore[attr-defined]
            for record in batch.to_pylist():
                try:
                    document = document_of(record, f"{file.name}:{row}", self.text_field, self.id_field, self.url_field)
                    if len(document.text) > self.max_record_bytes:
                        self.oversize(f"{file.path}: row {row}", len(document.text), task)
                    else:
                        yield document
                except ValueError as error:
                    task.fault(self.name, f"{file.path}: row {row}", error)
                row += 1
