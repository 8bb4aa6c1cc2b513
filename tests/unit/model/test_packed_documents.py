"""What the ranks of a packed row look at, against the definition: earlier places of the same document."""

import random

import pytest

pytest.importorskip("megatron.core")
from megatron_mimo.model.context_parallel import zigzag_ranges
from megatron_mimo.model.packed_documents import PackedDocuments, pack_documents

S, ROWS = 48, 2


def random_bounds(seed: int) -> list[int]:
    """Documents of two rows, which end with their rows."""
    generator = random.Random(seed)
    inside = generator.sample(range(1, ROWS * S), k=seed * 3)
    return sorted({0, S, ROWS * S, *inside})


def visible_keys(documents: PackedDocuments, places: list[int]) -> dict[int, list[int]]:
    """The keys of each query, as a kernel reads the chunks: a segment's queries are the last of its keys."""
    found: dict[int, list[int]] = {}
    queries = iter(places)
    for chunk in documents.chunks:
        start, end = chunk.keys
        keys = iter(range(start, end))
        q_bounds, kv_bounds = chunk.cu_seqlens_q.tolist(), chunk.cu_seqlens_kv.tolist()
        lengths = [(b - a, d - c) for a, b, c, d in zip(q_bounds, q_bounds[1:], kv_bounds, kv_bounds[1:], strict=False)]
        assert lengths == chunk.segments and q_bounds[-1] == chunk.num_queries
        assert (max(q for q, _ in lengths), max(k for _, k in lengths)) == (chunk.max_seqlen_q, chunk.max_seqlen_kv)
        assert chunk.starts_with_document == (q_bounds == kv_bounds)
        for num_queries, num_keys in lengths:
            segment = [next(keys) for _ in range(num_keys)]
            for number in range(num_queries):
                found[next(queries)] = segment[: num_keys - num_queries + number + 1]
        assert next(keys, None) is None
    assert next(queries, None) is None
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cp_size", [1, 2, 3, 4])
def test_every_query_looks_at_its_document_up_to_itself(cp_size: int, seed: int) -> None:
    bounds = random_bounds(seed)
    found: dict[int, list[int]] = {}
    for rank in range(cp_size):
        ranges = [(r * S + a, r * S + b) for r in range(ROWS) for a, b in zigzag_ranges(S, rank, cp_size)]
        places = [place for start, end in ranges for place in range(start, end)]
        assert len(places) == ROWS * S // cp_size
        own = visible_keys(pack_documents(bounds, ranges, ROWS), places)
        assert not own.keys() & found.keys()
        found |= own
    starts = [max(bound for bound in bounds if bound <= place) for place in range(ROWS * S)]
    assert found == {place: list(range(start, place + 1)) for place, start in enumerate(starts)}


def test_neighbouring_pieces_are_one_chunk() -> None:
    """A whole row, and the last rank's two pieces in the middle of a row."""
    bounds = [0, 7, 48]
    (whole,) = pack_documents(bounds, zigzag_ranges(48, 0, 1)).chunks
    assert whole.segments == [(7, 7), (41, 41)] and whole.starts_with_document
    (middle,) = pack_documents(bounds, zigzag_ranges(48, 3, 4)).chunks
    assert (middle.keys, middle.segments) == ((7, 30), [(12, 23)])


def test_every_rank_has_the_same_work_in_one_long_document() -> None:
    work = []
    for rank in range(4):
        chunks = pack_documents([0, 64], zigzag_ranges(64, rank, 4)).chunks
        segments = [segment for chunk in chunks for segment in chunk.segments]
        work.append(sum(keys - queries + number + 1 for queries, keys in segments for number in range(queries)))
    assert len(set(work)) == 1
