"""Best-fit packing: samples of many lengths into rows of one length (report section 4.1: 32 768 tokens)."""

import bisect
from collections.abc import Sequence


def pack_best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of sample indices with at most `capacity` tokens each, every sample once.

    Longest samples first, each into the fullest row that still has room (best-fit decreasing: at most 11/9 of the
    fewest rows possible, + 1). O(n log n) for bounded capacity. Raises ValueError for a sample longer than a row.
    """
    rows: list[list[int]] = []
    rooms: list[int] = []  # rooms that some row has left, ascending
    rows_by_room: dict[int, list[int]] = {}
    for sample in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[sample]
        if length > capacity:
            raise ValueError(f"sample {sample} has {length} tokens, a row only {capacity}")
        place = bisect.bisect_left(rooms, length)
        if place == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[place]
            row = rows_by_room[room].pop()
            if not rows_by_room[room]:
                del rows_by_room[room], rooms[place]
        rows[row].append(sample)
        left = room - length
        if left not in rows_by_room:
            rows_by_room[left] = []
            bisect.insort(rooms, left)
        rows_by_room[left].append(row)
    return rows
