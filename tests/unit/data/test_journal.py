"""The journal after kills at every byte, and against a second writer."""

from pathlib import Path

import pytest

from megatron_mimo.clients.journal import Journal, read_records
from megatron_mimo.config import UserError


def test_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for number in range(3):
            journal.append({"id": f"{number}", "text": "line\nend ü 中"})
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with Journal(path) as journal:
            for number in range(3):
                if f"{number}" not in journal.ids:
                    journal.append({"id": f"{number}", "text": "line\nend ü 中"})
        assert path.read_bytes() == whole, size


def test_no_id_twice(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append({"id": "a"})
        with pytest.raises(ValueError):
            journal.append({"id": "a"})


def test_one_writer(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(UserError, match="another process"), Journal(tmp_path / "j"):
        pass


def test_a_broken_line_inside_is_named(tmp_path: Path) -> None:
    (tmp_path / "j").write_text('{"id": "a"}\nnonsense\n{"id": "b"}\n')
    with pytest.raises(UserError, match="line 2"):
        list(read_records(tmp_path / "j"))
    with pytest.raises(UserError, match="line 2"), Journal(tmp_path / "j"):
        pass


def test_a_line_longer_than_the_block_read_backwards(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.append({"id": "a", "text": "x" * 200_000})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id": "b", "text": "' + b"y" * 150_000)
    with Journal(path) as journal:
        assert journal.ids == {"a"}
    assert path.read_bytes() == whole
