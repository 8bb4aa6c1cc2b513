"""Rounds of contraction against a plain union-find."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from megatron_mimo.config.errors import UserError
from megatron_mimo.data.dedup.clusters import large_star, small_star, write_members
from megatron_mimo.data.dedup.config import DedupConfig
from megatron_mimo.data.dedup.groups import EDGES
from megatron_mimo.data.dedup.runs import RunWriter, merge
from megatron_mimo.data.dedup.work import BADNESS, MEMBERS, POSITION_BITS, Work
from megatron_mimo.data.pipeline.step import Task

NUM_SHARDS, SHARD_SIZE = 3, 400


def number(node: int) -> int:
    return (node // SHARD_SIZE) << POSITION_BITS | node % SHARD_SIZE


def components(links: list[tuple[int, int]]) -> dict[int, int]:
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {node: root(node) for node in parent}


def contract(folder: Path, links: list[tuple[int, int]], rounds: int, partitions: int) -> dict[int, int]:
    """Node -> root by the stages of the pipeline."""
    work = Work(DedupConfig(partitions=partitions, cluster_rounds=rounds), folder, folder, NUM_SHARDS)
    for part in range(partitions):
        writer = RunWriter(work.file(EDGES, part), 2, 2**20)
        for one, other in links[part::partitions]:
            low, high = np.sort(np.array([[number(one)], [number(other)]], np.uint64), axis=0)
            for pair in ((low, high), (high, low)):
                writer.add(*pair)
        writer.close()
    for shard in range(NUM_SHARDS):
        work.file(BADNESS, shard).parent.mkdir(exist_ok=True)
        np.arange(1, SHARD_SIZE + 1, dtype="<u8").tofile(work.file(BADNESS, shard))
    tasks = [Task(index=i, num_tasks=partitions) for i in range(partitions)]
    for round_number in range(1, rounds + 1):
        for run in (large_star, small_star):
            for task in reversed(tasks):
                run(work, task, round_number)
    for task in tasks:
        write_members(work, task)
    records = np.concatenate(list(merge(work.files(MEMBERS), 3, 0, 2**64, 2**20)))
    assert (records[:, 1] == (records[:, 2] & np.uint64(2**POSITION_BITS - 1)) + np.uint64(1)).all()
    assert len(np.unique(records[:, 2])) == len(records)
    node = {number(i): i for i in range(NUM_SHARDS * SHARD_SIZE)}
    return {node[document]: node[root] for root, _, document in records.tolist()}


@pytest.mark.parametrize("num_links", [1, 200, 550, 1500])
@pytest.mark.parametrize("partitions", [1, 4])
def test_random_graphs(tmp_path: Path, num_links: int, partitions: int) -> None:
    random_ = random.Random(num_links)
    links = [tuple(random_.sample(range(NUM_SHARDS * SHARD_SIZE), 2)) for _ in range(num_links)]
    assert contract(tmp_path, links, 12, partitions) == components(links)


@pytest.mark.parametrize("shape", ["path", "shuffled path", "star", "complete"])
def test_shapes(tmp_path: Path, shape: str) -> None:
    nodes = list(range(0, 1200, 3))
    if shape == "shuffled path":
        random.Random(1).shuffle(nodes)
    links = {
        "star": [(nodes[-1], node) for node in nodes[:-1]],
        "complete": [(one, other) for one in nodes[:40] for other in nodes[:40] if one < other],
    }.get(shape, list(itertools.pairwise(nodes)))
    assert contract(tmp_path, links, 12, 2) == components(links)


def test_too_few_rounds_are_named_and_more_go_on(tmp_path: Path) -> None:
    nodes = list(range(1000))
    random.Random(2).shuffle(nodes)
    links = list(itertools.pairwise(nodes))
    with pytest.raises(UserError, match="raise dedup.cluster_rounds"):
        contract(tmp_path, links, 2, 2)
    assert set(contract(tmp_path, links, 16, 2).values()) == {0}
