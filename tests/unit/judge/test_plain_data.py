"""Values between the solution's and the examiner's process: whole, exact builtins, nothing else."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_mimo.judge.inside import plain_data

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
hashable = scalars | st.tuples(scalars, scalars) | st.frozensets(scalars, max_size=3)
values = st.recursive(
    scalars | st.complex_numbers(allow_nan=False) | st.sets(hashable, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(hashable, inner, max_size=3),
    max_leaves=10,
)


def no_handles(value: object) -> None:
    raise AssertionError(f"not plain: {value!r}")


@given(values)
def test_round_trip(value: object) -> None:
    near, far = os.pipe()
    try:
        plain_data.send(far, {"value": plain_data.encode(value, no_handles)})
        back = plain_data.decode(plain_data.receive(near)["value"], no_handles)
    finally:
        os.close(near)
        os.close(far)
    assert back == value
    assert type(back) is type(value)


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def test_subclasses_arrive_as_builtins() -> None:
    near, far = os.pipe()
    plain_data.send(far, {"value": plain_data.encode([Liar(3)], no_handles)})
    (back,) = plain_data.decode(plain_data.receive(near)["value"], no_handles)
    assert type(back) is int
    assert back != 4


@pytest.mark.parametrize("data", [{"a": 1, "b": 2}, {"unknown": 1}, {"bytes": "zz"}, {}])
def test_what_encode_cannot_have_written_is_refused(data: dict) -> None:
    with pytest.raises(ValueError):
        plain_data.decode(data, no_handles)


def test_a_closed_pipe_and_a_huge_message() -> None:
    near, far = os.pipe()
    os.write(far, (1 << 31).to_bytes(4, "little"))
    with pytest.raises(ValueError, match="bytes"):
        plain_data.receive(near)
    os.close(far)
    with pytest.raises(EOFError):
        plain_data.receive(near)
