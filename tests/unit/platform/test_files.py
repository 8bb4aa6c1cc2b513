"""Files are whole or absent."""

import gzip
import json
import os
from pathlib import Path

import pytest
import zstandard

from megatron_mimo.platform.files import open_text, write_json, write_text


def test_text_is_read_plain_or_compressed(tmp_path: Path) -> None:
    content = "eins\nzwölf\n".encode()
    packed = {"a.txt": content, "a.txt.gz": gzip.compress(content), "a.txt.zst": zstandard.compress(content)}
    for name, stored in packed.items():
        (tmp_path / name).write_bytes(stored)
        with open_text(str(tmp_path / name)) as lines:
            assert list(lines) == ["eins\n", "zwölf\n"]


def test_text_is_written_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_text(path, "née\n")
    assert path.read_bytes() == b"n\xc3\xa9e\n"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"step": 1})

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 1}


def test_half_a_surrogate_pair_is_an_error_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "answer.txt"
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "a\ud800b")
    assert not path.exists()
    write_text(path, "a\ud800b", errors="replace")
    assert path.read_text() == "a?b"
