"""Shards come back as they were written, and an interrupted one leaves nothing under its name."""

import random

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
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


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_cut_shard_is_not_taken_for_a_short_one(tmp_path, share: float):
    path = shard_path(tmp_path, 0)
    texts = [random.Random(number).randbytes(500).hex() for number in range(2000)]
    write_documents(path, [Document(str(number), text) for number, text in enumerate(texts)])
    assert [document.text for document in read_documents(path)] == texts
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match="is damaged after"):
        list(read_documents(path))
