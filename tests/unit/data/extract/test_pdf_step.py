"""Step extract_pdf: where the file comes from, what it drops and counts."""

import base64
from pathlib import Path

import pytest

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.extract.mineru import extract_pdf_mineru
from megatron_mimo.data.extract.pdf_step import ExtractPdf
from megatron_mimo.data.pipeline.step import Task
from support.pdf_files import Paper, encrypted_pdf


def sound_pdf() -> bytes:
    paper = Paper()
    paper.paragraph("A short text in a file.")
    return paper.data()


def as_document(identifier: str, data: bytes) -> Document:
    content = base64.b64encode(data).decode()
    return Document(identifier, "", metadata={"media_type": "application/pdf", "content_base64": content})


def test_content_path_and_other_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(sound_pdf())
    by_path = Document("path", "", metadata={"media_type": "application/pdf", "path": str(path)})
    page = Document("page", "<p>x</p>", metadata={"media_type": "text/html"})
    kept = list(ExtractPdf().run([as_document("bytes", sound_pdf()), by_path, page], Task()))
    assert [document.text.strip() for document in kept] == ["A short text in a file."] * 2 + ["<p>x</p>"]
    assert kept[0].metadata == {"media_type": "text/markdown"}
    assert page.metadata == {"media_type": "text/html"}


def test_drops_are_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    missing = Document("gone", "", metadata={"media_type": "application/pdf", "path": str(tmp_path / "gone.pdf")})
    bare = Document("bare", "", metadata={"media_type": "application/pdf"})
    documents = [as_document("locked", encrypted_pdf()), as_document("junk", b"%PDF junk"), missing, bare]
    task = Task()
    kept = list(ExtractPdf().run([*documents, as_document("good", sound_pdf())], task))
    assert [document.id for document in kept] == ["good"]
    dropped = {key.split("/")[-1]: number for key, number in task.counts.items() if "/dropped/" in key}
    assert dropped == {"encrypted": 1, "broken": 1, "fault": 2}
    assert {fault.place for fault in task.faults} == {"gone", "bare"}


def test_large_files_are_dropped() -> None:
    task = Task()
    assert not list(ExtractPdf(max_bytes=100).run([as_document("large", sound_pdf())], task))
    assert task.counts["extract_pdf/dropped/too large"] == 1


@pytest.mark.parametrize("options", [{"timeout_seconds": 0}, {"max_bytes": 0}])
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ExtractPdf(**options)  # type: ignore[arg-type]


def test_mineru_absent() -> None:
    with pytest.raises(UserError, match="pip install"):
        extract_pdf_mineru(b"", command="no-such-mineru-command")
