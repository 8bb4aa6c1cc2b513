"""Shards come back as they were written, and an interrupted one leaves nothing under its name."""

import random

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline import shards
from megatron_mimo.data.pipeline.shards import read_documents, shard_path, shard_paths, write_documents


def test_documents_come_back(tmp_path):
    documents = [
        Document(
            "a#1",
            "line one\nline two\u2028 \U0001f600 数学",
            url="https://a.b/c",
            source="web",
            metadata={"k": [1, 2.5]},
        ),
        Document("a#2", "", split="valid"),
    ]
    assert write_documents(shard_path(tmp_path, 3), documents) == 2
    assert shard_paths(tmp_path) == [tmp_path / "00003.jsonl.zst"]
    assert list(read_documents(tmp_path / "00003.jsonl.zst")) == documents


def test_an_interrupted_shard_is_absent(tmp_path):
    def documents():
        yield Document("a", "text")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_documents(shard_path(tmp_path, 0), documents())
    assert shard_paths(tmp_path) == []


def test_lines_of_any_length_at_any_place(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "_COMPRESSED_BYTES_AT_ONCE", 7)
    random_ = random.Random(0)
    documents = [Document(str(i), random_.randbytes(random_.choice([0, 3, 50, 200_000])).hex()) for i in range(40)]
    write_documents(shard_path(tmp_path, 0), documents)
    assert list(read_documents(shard_path(tmp_path, 0))) == documents


def test_what_follows_the_end_is_noticed(tmp_path):
    path = shard_path(tmp_path, 0)
    write_documents(path, [Document("a", "text")])
    for more in (b"x", path.read_bytes(), b"x" * 10**6):
        write_documents(path, [Document("a", "text")])
        path.write_bytes(path.read_bytes() + more)
        with pytest.raises(UserError, match="is damaged after 1 documents"):
            list(read_documents(path))
    path.write_bytes(b"")
    with pytest.raises(UserError, match="is damaged after 0 documents"):
        list(read_documents(path))


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_cut_shard_is_not_taken_for_a_short_one(tmp_path, share: float):
    path = shard_path(tmp_path, 0)
    texts = [random.Random(number).randbytes(500).hex() for number in range(2000)]
    write_documents(path, [Document(str(number), text) for number, text in enumerate(texts)])
    assert [document.text for document in read_documents(path)] == texts
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match="is damaged after"):
        list(read_documents(path))
