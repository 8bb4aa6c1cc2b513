"""External sorting against Python's own sort."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.config.errors import UserError
from megatron_mimo.data.dedup import runs
from megatron_mimo.data.dedup.runs import MAX_KEY, RunWriter, merge, ranges

FEW = st.integers(0, 3) | st.integers(MAX_KEY - 3, MAX_KEY - 1) | st.integers(0, MAX_KEY - 1)


def write(path: Path, records: list[tuple[int, ...]], columns: int, at_once: int, memory_bytes: int = 0) -> Path:
    writer = RunWriter(path, columns, memory_bytes)
    for start in range(0, len(records), at_once):
        writer.add(*np.array(records[start : start + at_once], np.uint64).reshape(-1, columns).T)
    writer.close()
    return path


@settings(max_examples=60, deadline=None)
@given(data=st.data(), columns=st.integers(2, 4), tasks=st.integers(1, 5), at_once=st.integers(1, 40))
def test_merge_is_sort(tmp_path_factory, data, columns, tasks, at_once) -> None:
    folder = tmp_path_factory.mktemp("runs")
    files = data.draw(st.lists(st.lists(st.tuples(*[FEW] * columns), max_size=60), max_size=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_FEWEST_RECORDS", 3)
        paths = [write(folder / f"{i}.bin", records, columns, at_once) for i, records in enumerate(files)]
        merged = []
        for task in range(tasks):
            low, high = ranges(tasks, task)
            part = [tuple(record) for block in merge(paths, columns, low, high, 0) for record in block.tolist()]
            assert all(low <= record[0] < high for record in part)
            merged += part
    assert merged == sorted({record for records in files for record in records})


def test_many_runs(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**63, 50_000).astype(np.uint64)
    paths = []
    for i in range(5):
        writer = RunWriter(tmp_path / f"{i}.bin", 2, 2**15)
        for part in np.array_split(values[i::5], 9):
            writer.add(part, part + np.uint64(1))
        writer.close()
        paths.append(tmp_path / f"{i}.bin")
    blocks = list(merge(paths, 2, 0, MAX_KEY, 2**19))
    assert np.array_equal(np.concatenate(blocks)[:, 0], np.unique(values))
    assert max(map(len, blocks)) * 16 <= 2**19


def test_an_open_run_has_no_name(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "a.bin", 2, 2**20)
    writer.add(np.zeros(3, np.uint64), np.ones(3, np.uint64))
    assert not (tmp_path / "a.bin").exists()
    writer.close()
    assert (tmp_path / "a.bin").exists() and not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-8], lambda data: data[8:], lambda data: b"", lambda data: b"x" * 40]
)
def test_damaged_files_are_named(tmp_path: Path, damage) -> None:
    path = write(tmp_path / "a.bin", [(1, 2), (3, 4), (5, 6)], 2, 9)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.bin is damaged"):
        list(merge([path], 2, 0, MAX_KEY, 2**20))


def test_another_number_of_columns_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", [(1, 2, 3)], 3, 1)
    with pytest.raises(UserError, match="is damaged"):
        list(merge([path], 2, 0, MAX_KEY, 2**20))
