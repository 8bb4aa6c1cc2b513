"""`megatron-mimo extract`: the text, its fields, and why each block stayed or went, of files and pages in archives."""

import json
from pathlib import Path

import pytest

from megatron_mimo.data.extract.command import main
from support.pdf_files import Paper

SENTENCES = [f"{number}. The moon pulls the water up on both sides of the globe, twice a day." for number in range(5)]
PAGE = (
    '<html lang="en"><head><title>Tides</title><meta property="og:type" content="article"></head>'
    '<body><nav><a href="/">Home</a> <a href="/b">Blog</a></nav><main><h1>Tides</h1>'
    + "".join(f"<p>{sentence}</p>" for sentence in SENTENCES)
    + "</main></body></html>"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    return path


def test_text_and_fields(file: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == "\n\n".join(SENTENCES) + "\n"
    assert main([str(file), "--headline", "keep", "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert (fields["title"], fields["language"], fields["kind"]) == ("Tides", "en", "page")
    assert fields["text"] == "# Tides\n\n" + "\n\n".join(SENTENCES)


def test_why_names_every_block_and_its_rule(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(file), "--why"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines if "The moon" in line] == ["+"] * 5
    assert all(line[0] == "-" for line in lines if "Home" in line or "headline" in line)
    assert any("headline: the title holds it" in line for line in lines)
    html = tmp_path / "why.html"
    assert main([str(file), "--why", "--html", str(html)]) == 0
    shown = html.read_text()
    assert "part removed" in shown and all(sentence in shown for sentence in SENTENCES)


def test_a_page_in_an_archive_is_found_by_its_address(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records = b""
    for number, body in enumerate((b"<p>Another page.", PAGE.encode())):
        http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
        head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
        head += f"WARC-Target-URI: https://example.org/{number}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        head += f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
        records += head.encode() + http + b"\r\n\r\n"
    path = tmp_path / "crawl.warc"
    path.write_bytes(records)
    assert main([str(path), "--url", "https://example.org/1"]) == 0
    assert SENTENCES[3] in capsys.readouterr().out
    assert main([str(path), "--url", "https://example.org/7"]) == 2
    assert "https://example.org/0" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tmp_path / "none.html")]) == 2
    assert "none.html is no file" in capsys.readouterr().err


def test_a_pdf_gives_its_text(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    paper = Paper()
    paper.paragraph(SENTENCES[0][3:])
    path = tmp_path / "paper.pdf"
    path.write_bytes(bytes(paper.output()))
    assert main([str(path)]) == 0
    assert SENTENCES[0][3:] in capsys.readouterr().out
    assert main([str(path), "--why"]) == 2
    assert "is a PDF" in capsys.readouterr().err
