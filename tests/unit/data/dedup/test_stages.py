"""The whole deduplication against plain references; whatever is killed or reordered, the same bytes."""

import hashlib
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from megatron_mimo.config.errors import ConfigError, UserError
from megatron_mimo.data.dedup.config import DedupConfig
from megatron_mimo.data.dedup.decisions import read_decisions
from megatron_mimo.data.dedup.drop import DropDuplicates
from megatron_mimo.data.dedup.minhash import MinHash, is_empty, token_hashes
from megatron_mimo.data.dedup.stages import dedup_stages
from megatron_mimo.data.dedup.urls import canonical_url
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.shards import read_documents, shard_path, shard_paths, write_documents
from megatron_mimo.data.pipeline.step import Task

NUM_SHARDS = 4
HAN = [chr(code) for code in range(0x4E00, 0x5200)]
Result = dict[str, tuple[str, str]]
"""Dropped document -> (reason, kept document), by id."""


def make_documents(seed: int = 0, families: int = 40) -> list[Document]:
    """Families of an original and copies with 0 to 7 % of the words changed, in any order; some in Chinese."""
    random_ = random.Random(seed)
    texts = ["", " \n", "!!!", "one two", "ONE, two.", "onetwo", "onetwo.", "one two."]
    for family in range(families):
        han = family % 5 == 0
        words = random_.choices(HAN, k=300) if han else [f"w{random_.randrange(10**6)}" for _ in range(200)]
        for copy in range(random_.choice([1, 1, 2, 3, 8])):
            rate = copy * random_.choice([0, 0.002, 0.005, 0.01])
            changed = [f" edit{random_.random()} " if random_.random() < rate else word for word in words]
            texts.append(("" if han else " ").join(changed) + ("\n" if copy == 2 else ""))
    random_.shuffle(texts)
    urls = ["", "", "https://www.a.b/{}", "http://a.b/{}/?utm_source=x"]
    return [
        Document(
            f"d{i:03d}",
            text,
            url=random_.choice(urls).format(random_.randrange(2 * len(texts))),
            metadata={"score": i % 7},
        )
        for i, text in enumerate(texts)
    ]


def write_shards(folder: Path, documents: list[Document], num_shards: int = NUM_SHARDS) -> Path:
    size = -(-len(documents) // num_shards)
    for index in range(num_shards):
        write_documents(shard_path(folder, index), documents[index * size : (index + 1) * size])
    return folder


def run_stages(
    config: DedupConfig, source: Path, work: Path, order: Callable[[range], Iterable[int]] = lambda tasks: tasks
) -> None:
    for stage in dedup_stages(config, source, work):
        for index in order(range(stage.num_tasks)):
            stage.run(Task(index=index, num_tasks=stage.num_tasks))


def result_of(source: Path, work: Path, first_shard: int = 0, old: list[str] | None = None) -> Result:
    """The decisions as ids; `old` names the documents of the index by number, one shard of them."""
    ids = {
        (first_shard + s) << 40 | i: d.id
        for s, path in enumerate(shard_paths(source))
        for i, d in enumerate(read_documents(path))
    }
    ids.update(enumerate(old or []))
    reasons = {1: "url", 2: "exact", 3: "near"}
    return {
        ids[(first_shard + shard) << 40 | position]: (reasons[kind], ids[kept])
        for shard in range(len(shard_paths(source)))
        for position, kept, _, kind in read_decisions(work / "decisions" / f"{shard:05d}.bin")[1]
        if kind
    }


def hashes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".tmp")
    }


def naive(
    documents: list[Document], quality: Callable[[Document], float] = lambda document: len(document.text)
) -> Result:
    """The same decisions with dictionaries and union-find over all documents at once."""

    def best(group: list[Document]) -> Document:
        return max(group, key=lambda document: (quality(document), -documents.index(document)))

    def group_by(members: list[Document], key: Callable[[Document], object]) -> list[list[Document]]:
        groups: dict[object, list[Document]] = defaultdict(list)
        for document in members:
            groups[key(document)].append(document)
        return list(groups.values())

    result: Result = {}
    for group in group_by([document for document in documents if document.url], lambda d: canonical_url(d.url)):
        result |= {d.id: ("url", best(group).id) for d in group if d is not best(group)}
    left = [document for document in documents if document.id not in result]
    exact: Result = {}
    same_text = group_by(left, lambda document: "".join(document.text.split()))
    for group in same_text:
        exact |= {d.id: ("exact", best(group).id) for d in group if d is not best(group)}
    parent = {document.id: document.id for document in left}

    def root(node: str) -> str:
        while parent[node] != node:
            node = parent[node]
        return node

    scheme = MinHash(overlapping=True)
    signatures = scheme.signatures([document.text for document in left])
    keys = scheme.band_keys(signatures).tolist()
    seen: dict[int, str] = {}
    for document, row, empty in zip(left, keys, is_empty(signatures), strict=True):
        for key in [] if empty else row:
            parent[root(document.id)] = root(seen.setdefault(key, document.id))
    for group in same_text:
        for document in group:
            parent[root(document.id)] = root(group[0].id)
    near: Result = {}
    for group in group_by(left, lambda document: root(document.id)):
        kept = best(group).id
        near |= {d.id: ("exact" if d.id in exact else "near", kept) for d in group if d.id != kept}
    return result | near


@pytest.fixture
def documents() -> list[Document]:
    return make_documents()


@pytest.fixture
def source(tmp_path: Path, documents: list[Document]) -> Path:
    return write_shards(tmp_path / "in", documents)


def test_decisions_are_those_of_the_naive_reference(tmp_path, source, documents) -> None:
    run_stages(DedupConfig(), source, tmp_path / "work")
    expected = naive(documents)
    assert {reason for reason, _ in expected.values()} == {"url", "exact", "near"}
    assert result_of(source, tmp_path / "work") == expected


def test_without_urls_and_with_a_score(tmp_path, source, documents) -> None:
    run_stages(DedupConfig(urls=False, quality="score"), source, tmp_path / "work")
    without_urls = [Document(d.id, d.text, metadata=d.metadata) for d in documents]
    expected = naive(without_urls, quality=lambda document: document.metadata["score"])
    assert result_of(source, tmp_path / "work") == expected


def test_against_all_pairs_of_texts(tmp_path, documents) -> None:
    """Exact Jaccard of all pairs: what is alike is in one cluster, what is dropped is like its cluster."""
    documents = [Document(document.id, document.text) for document in make_documents(seed=3)]
    source = write_shards(tmp_path / "in", documents)
    run_stages(DedupConfig(), source, tmp_path / "work")
    kept = {name: name for name in (document.id for document in documents)}
    kept |= {name: best for name, (_, best) in result_of(source, tmp_path / "work").items()}
    shingles = {}
    for document in documents:
        tokens = token_hashes(document.text).tolist()
        shingles[document.id] = {tuple(tokens[i : i + 5]) for i in range(max(1, len(tokens) - 4))} if tokens else set()
    alike: dict[str, float] = defaultdict(float)
    num_pairs = 0
    for one in documents:
        for other in documents:
            a, b = shingles[one.id], shingles[other.id]
            jaccard = len(a & b) / len(a | b) if one is not other and a and b else 0
            if jaccard >= 0.9:
                num_pairs += 1
                assert kept[one.id] == kept[other.id], jaccard
            if kept[one.id] == kept[other.id]:
                alike[one.id] = max(alike[one.id], jaccard)
    assert num_pairs > 50
    assert min(alike[name] for name in kept if kept[name] != name and shingles[name]) > 0.25


@pytest.mark.parametrize("variant", ["partitions", "reversed", "little memory"])
def test_decisions_do_not_depend_on_how_the_work_is_cut(tmp_path, source, variant) -> None:
    run_stages(DedupConfig(), source, tmp_path / "one")
    config = DedupConfig(partitions=3 if variant == "partitions" else 16)
    if variant == "little memory":
        config.memory_bytes = 1024
    run_stages(config, source, tmp_path / "two", order=reversed if variant == "reversed" else lambda tasks: tasks)
    assert hashes_of(tmp_path / "one" / "decisions") == hashes_of(tmp_path / "two" / "decisions")
    if variant == "reversed":
        assert hashes_of(tmp_path / "one") == hashes_of(tmp_path / "two")


def _work_through(config: DedupConfig, source: Path, work: Path, done: Path) -> None:
    for stage in dedup_stages(config, source, work):
        for index in range(stage.num_tasks):
            marker = done / f"{stage.name}-{index}"
            if not marker.exists():
                stage.run(Task(index=index, num_tasks=stage.num_tasks))
                marker.touch()


def test_killed_runs_leave_the_same_bytes(tmp_path, source) -> None:
    config = DedupConfig(partitions=4, save_index=True)
    (tmp_path / "undisturbed").mkdir()
    start = time.perf_counter()
    _work_through(config, source, tmp_path / "one", tmp_path / "undisturbed")
    seconds = time.perf_counter() - start
    (tmp_path / "done").mkdir()
    random_, kills = random.Random(0), 0
    for attempt in range(100):
        arguments = (config, source, tmp_path / "two", tmp_path / "done")
        process = multiprocessing.get_context("fork").Process(target=_work_through, args=arguments)
        process.start()
        process.join(random_.uniform(0, seconds / 3) if attempt < 15 else None)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        if process.exitcode == 0:
            break
    assert kills > 3
    assert hashes_of(tmp_path / "one") == hashes_of(tmp_path / "two")


def test_an_index_stands_for_its_documents(tmp_path, documents) -> None:
    """Two runs, the second against the first's index, drop what one run drops that prefers the first's documents."""
    documents = [Document(document.id, document.text, url=document.url) for document in documents]
    half = len(documents) // 2
    first = write_shards(tmp_path / "first", documents[:half], 1)
    second = write_shards(tmp_path / "second", documents[half:], 3)
    run_stages(DedupConfig(save_index=True), first, tmp_path / "one")
    index = str(tmp_path / "one" / "index")
    run_stages(DedupConfig(index=index, save_index=True, partitions=5), second, tmp_path / "two")
    old = [document.id for document in documents[:half]]
    dropped = result_of(second, tmp_path / "two", 1, old)
    expected = naive(documents, quality=lambda d: len(d.text) + (10**9 if d.id in old else 0))
    assert any(kept in old for _, kept in dropped.values())
    # Of old documents with one URL only the best was compared by text, as in a single run.
    assert dropped.keys() == {name for name in expected if name not in old}
    assert {name: reason for name, (reason, _) in dropped.items()} == {
        name: reason for name, (reason, _) in expected.items() if name not in old
    }
    # The second run's index holds both: everything seen before is dropped.
    everything = write_shards(tmp_path / "all", documents, 2)
    run_stages(DedupConfig(index=str(tmp_path / "two" / "index")), everything, tmp_path / "three")
    for shard in range(2):
        number, decisions = read_decisions(tmp_path / "three" / "decisions" / f"{shard:05d}.bin")
        assert [position for position, _, _, kind in decisions if kind] == list(range(number))


def test_an_index_of_other_settings_is_refused(tmp_path, source) -> None:
    run_stages(DedupConfig(save_index=True), source, tmp_path / "one")
    config = DedupConfig(index=str(tmp_path / "one" / "index"), seed=2)
    with pytest.raises(ConfigError, match="other settings"):
        run_stages(config, source, tmp_path / "two")
    with pytest.raises(ConfigError, match=r"no index\.json"):
        run_stages(DedupConfig(index=str(tmp_path)), source, tmp_path / "two")


def test_the_step_applies_the_decisions(tmp_path, source, documents) -> None:
    run_stages(DedupConfig(), source, tmp_path / "work")
    step = DropDuplicates(decisions=str(tmp_path / "work" / "decisions"))
    expected, kept, dropped = naive(documents), [], {}
    for index in range(NUM_SHARDS):
        task = Task(index=index, num_tasks=NUM_SHARDS, on_drop=lambda d, _, reason: dropped.update({d.id: reason}))
        kept += list(step.run(read_documents(shard_path(source, index)), task))
    assert dropped == {name: f"{reason} duplicate" for name, (reason, _) in expected.items()}
    assert [d.id for d in kept] == [d.id for d in documents if d.id not in expected]
    stands_for = {d.id: 1 + sum(best == d.id for _, best in expected.values()) for d in kept}
    assert {d.id: d.metadata["copies"] for d in kept} == stands_for


def test_decisions_on_another_shard_are_refused(tmp_path, source) -> None:
    run_stages(DedupConfig(), source, tmp_path / "work")
    step = DropDuplicates(decisions=str(tmp_path / "work" / "decisions"))
    texts = list(read_documents(shard_path(source, 0)))
    for wrong in (texts[:-1], [*texts, texts[0]], []):
        with pytest.raises(UserError, match="another shard"):
            list(step.run(wrong, Task(index=0)))
    with pytest.raises(UserError, match="no decisions"):
        list(step.run(texts, Task(index=9)))
    with pytest.raises(ConfigError):
        DropDuplicates(decisions="")


def test_stages_travel_to_other_processes(tmp_path, source) -> None:
    for stage in dedup_stages(DedupConfig(), source, tmp_path / "work"):
        copy = pickle.loads(pickle.dumps(stage))
        copy.run(Task(index=0, num_tasks=stage.num_tasks))
        for index in range(1, stage.num_tasks):
            stage.run(Task(index=index, num_tasks=stage.num_tasks))
    assert result_of(source, tmp_path / "work")


def test_scores_that_are_no_numbers_are_worst(tmp_path) -> None:
    scores = [None, "9", float("nan"), -5, 3, 3.5, True]
    documents = [Document(f"d{i}", "the same text", metadata={"score": score}) for i, score in enumerate(scores)]
    source = write_shards(tmp_path / "in", documents, 2)
    run_stages(DedupConfig(quality="score"), source, tmp_path / "work")
    assert {kept for _, kept in result_of(source, tmp_path / "work").values()} == {"d5"}
    run_stages(DedupConfig(quality="score"), write_shards(tmp_path / "few", documents[:4], 1), tmp_path / "two")
    assert {kept for _, kept in result_of(tmp_path / "few", tmp_path / "two").values()} == {"d3"}


def test_bad_input_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="no shards"):
        dedup_stages(DedupConfig(), tmp_path, tmp_path / "work")
    assert dedup_stages(DedupConfig(), tmp_path, tmp_path / "work", num_shards=7)[0].num_tasks == 7
    for options in (
        dict(num_bands=0),
        dict(ngram=65),
        dict(partitions=0),
        dict(rows=300, num_bands=30),
        dict(memory_bytes=5),
    ):
        with pytest.raises(ConfigError):
            DedupConfig(**options)


MEMORY_PROGRAM = """
import resource, sys
from pathlib import Path
from megatron_mimo.data.dedup.config import DedupConfig
from megatron_mimo.data.dedup.stages import dedup_stages
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.shards import shard_path, write_documents
from megatron_mimo.data.pipeline.step import Task
folder, number = Path(sys.argv[1]), int(sys.argv[2])
def documents():
    for i in range(number):
        # Pairs of near-duplicates, and one text that a third of the documents share.
        words = [f"w{j * (i // 2 + 1) % 9973}" for j in range(40)] if i % 3 else ["common"] * 40
        yield Document(str(i), " ".join(words), url=f"http://a.b/{i // 5 * 5 + i % 5 % 4}")
write_documents(shard_path(folder / "in", 0), documents())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for stage in dedup_stages(DedupConfig(memory_bytes=2**20, partitions=2), folder / "in", folder / "work"):
    for index in range(stage.num_tasks):
        stage.run(Task(index=index, num_tasks=stage.num_tasks))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_documents(tmp_path) -> None:
    """Peak resident memory over that before the run, one shard of 1 500 and of 15 000 documents."""
    peaks = []
    for number in (1_500, 15_000):
        command = [sys.executable, "-c", MEMORY_PROGRAM, str(tmp_path / str(number)), str(number)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] - peaks[0] < 4 * 1024, f"KiB over the start: {peaks}"
