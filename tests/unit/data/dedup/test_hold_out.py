"""Whole clusters are held out: against exact Jaccard similarities of all pairs, and clusters by union-find."""

import hashlib
import random
from itertools import combinations
from pathlib import Path

import pytest

from megatron_mimo.config.errors import ConfigError, UserError
from megatron_mimo.data.dedup.config import DedupConfig
from megatron_mimo.data.dedup.hold_out import NEAR_EARLIER, NEAR_HELD_OUT, HoldOutClusters
from megatron_mimo.data.dedup.stages import dedup_stages
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.shards import read_documents, shard_path, shard_paths, write_documents
from megatron_mimo.data.pipeline.step import Task

SHARE = 0.3
LOOSE = dict(num_bands=24, rows=3, overlapping_bands=False, urls=False, partitions=2)


def make_documents(families: int = 60, seed: int = 0) -> list[Document]:
    """Families of an original and copies with 1 to 3 % of the words changed, shuffled."""
    random_ = random.Random(seed)
    texts = []
    for family in range(families):
        words = [f"w{random_.randrange(10**6)}" for _ in range(random_.randrange(80, 200))]
        for copy in range(family % 4 + 1):
            texts.append(" ".join("other" if copy and random_.random() < 0.01 * copy else word for word in words))
    random_.shuffle(texts)
    return [Document(f"d{i:03d}", text) for i, text in enumerate(texts)]


def write_shards(folder: Path, documents: list[Document], num_shards: int = 3) -> Path:
    for index in range(num_shards):
        write_documents(shard_path(folder, index), documents[index::num_shards])
    return folder


def run_stages(config: DedupConfig, source: Path, work: Path) -> None:
    for stage in dedup_stages(config, source, work):
        for index in range(stage.num_tasks):
            stage.run(Task(index=index, num_tasks=stage.num_tasks))


def hold_out(source: Path, work: Path, share: float = SHARE) -> tuple[dict[str, Document], dict[str, str]]:
    """The documents that stay, and the reasons of those dropped, by id."""
    stay, dropped = {}, {}
    for index in range(len(shard_paths(source))):
        task = Task(index=index, on_drop=lambda document, _, reason: dropped.update({document.id: reason}))
        step = HoldOutClusters(clusters=str(work), valid_share=share)
        stay |= {document.id: document for document in step.run(read_documents(shard_path(source, index)), task)}
    return stay, dropped


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def families_of(documents: list[Document], jaccard: float) -> list[list[Document]]:
    """Connected components of the pairs that are at least that similar."""
    root = {document.id: document.id for document in documents}

    def find(name: str) -> str:
        return name if root[name] == name else find(root[name])

    sets = {document.id: shingles(document.text) for document in documents}
    for a, b in combinations(sets, 2):
        if len(sets[a] & sets[b]) >= jaccard * len(sets[a] | sets[b]):
            root[find(a)] = find(b)
    families: dict[str, list[Document]] = {}
    for document in documents:
        families.setdefault(find(document.id), []).append(document)
    return list(families.values())


@pytest.fixture
def documents() -> list[Document]:
    return make_documents()


@pytest.fixture
def source(tmp_path: Path, documents: list[Document]) -> Path:
    return write_shards(tmp_path / "in", documents)


def test_no_training_document_resembles_a_held_out_one(tmp_path, source, documents) -> None:
    run_stages(DedupConfig(**LOOSE), source, tmp_path / "work")
    stay, dropped = hold_out(source, tmp_path / "work")
    valid = [shingles(d.text) for d in stay.values() if d.split == "valid"]
    train = [shingles(d.text) for d in stay.values() if d.split == "train"]
    assert len(valid) > 5 and len(train) > 60
    assert max(len(a & b) / len(a | b) for a in valid for b in train) < 0.1
    assert dropped and set(dropped.values()) == {NEAR_HELD_OUT}
    assert len(stay) + len(dropped) == len(documents)


def test_the_longest_text_of_a_family_decides_for_all(tmp_path, source, documents) -> None:
    """The families are far apart and close together: a threshold in between finds them exactly."""
    run_stages(DedupConfig(**LOOSE), source, tmp_path / "work")
    stay, dropped = hold_out(source, tmp_path / "work")
    order = [d.id for index in range(3) for d in documents[index::3]]
    families = families_of(documents, 0.15)
    assert {len(family) for family in families} == {1, 2, 3, 4}
    for family in families:
        best = max(family, key=lambda d: (len(d.text), -order.index(d.id)))
        digest = hashlib.blake2b("".join(best.text.split()).encode(), digest_size=8).digest()
        if int.from_bytes(digest, "little") < SHARE * 2**64:
            assert stay[best.id].split == "valid"
            assert all(d.id in dropped for d in family if d is not best)
        else:
            assert all(stay[d.id].split == "train" for d in family)


def test_splitting_by_the_hash_of_every_document_would_not_do(documents) -> None:
    """What the step is for: the same documents, split one by one, leave copies on both sides."""
    held = {
        d.id: int.from_bytes(hashlib.sha256(d.text.encode()).digest()[:8], "big") < SHARE * 2**64 for d in documents
    }
    families = families_of(documents, 0.15)
    assert sum(len({held[d.id] for d in family}) == 2 for family in families) > 10


def test_shares_and_shards_of_an_earlier_run(tmp_path, source, documents) -> None:
    run_stages(DedupConfig(**LOOSE, save_index=True), source, tmp_path / "work")
    stay, dropped = hold_out(source, tmp_path / "work", share=0.0)
    assert not dropped and {d.split for d in stay.values()} == {"train"}
    again = write_shards(tmp_path / "again", [*documents[:20], Document("new", "words of its own, none like them")])
    run_stages(DedupConfig(**LOOSE, index=str(tmp_path / "work" / "index")), again, tmp_path / "second")
    stay, dropped = hold_out(again, tmp_path / "second")
    assert list(stay) == ["new"]
    assert set(dropped.values()) == {NEAR_EARLIER} and len(dropped) == 20


def test_wrong_folders_and_shares_are_refused(tmp_path, source, documents) -> None:
    for options in (dict(clusters=""), dict(clusters="x", valid_share=1.0)):
        with pytest.raises(ConfigError):
            HoldOutClusters(**options)
    step = HoldOutClusters(clusters=str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="no decisions"):
        list(step.run(documents, Task(index=0)))
    run_stages(DedupConfig(**LOOSE), source, tmp_path / "work")
    step = HoldOutClusters(clusters=str(tmp_path / "work"))
    with pytest.raises(UserError, match="another shard"):
        list(step.run(documents, Task(index=0)))
