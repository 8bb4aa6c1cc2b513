"""Comparison of answers: examples worked out by hand."""

import json

import pytest

from megatron_mimo.judge.compare import same_json, same_output

TOKENS = [
    (b"1 2\n3\n", b"1 2 3", True),
    (b"1 2", b"1 2 3", False),
    (b"1 2 3 4", b"1 2 3", False),
    (b"1 2 3 \n\n", b"1 2 3", True),
    (b"", b"", True),
    (b" \n", b"", True),
    (b"x", b"", False),
    (b"1.0", b"1", False),
    (b"caf\xc3\xa9", b"caf\xc3\xa9 ", True),
    (b"a b c d e f", b"a", False),
]


@pytest.mark.parametrize(("actual", "expected", "same"), TOKENS)
def test_tokens(actual: bytes, expected: bytes, same: bool) -> None:
    assert same_output(actual, expected, "tokens", None) is same


def test_lines_and_exact() -> None:
    assert same_output(b"a b \nc\n\n", b"a b\nc", "lines", None)
    assert not same_output(b"a  b\nc", b"a b\nc", "lines", None)
    assert not same_output(b"a b c", b"a b\nc", "lines", None)
    assert not same_output(b"a b\nc\nd", b"a b\nc", "lines", None)
    assert same_output(b"a\n", b"a\n", "exact", None)
    assert not same_output(b"a", b"a\n", "exact", None)


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        (b"0.3333", b"0.33333", True),
        (b"0.33", b"0.33333", False),
        (b"1", b"1.0004", True),
        (b"1000000.5", b"1000001", True),
        (b"2e3", b"2000", True),
        (b"1000000000000000001", b"1000000000000000000", False),
        (b"x 1.0001", b"x 1", True),
        (b"nan", b"1.0", False),
        (b"1_0.0", b"10.0", False),
        (b"inf", b"1e308", False),
        (b"-1.0", b"1.0", False),
    ],
)
def test_tolerance(actual: bytes, expected: bytes, same: bool) -> None:
    assert same_output(actual, expected, "tokens", 1e-3) is same
    assert same_output(actual, expected, "lines", 1e-3) is same


def test_json() -> None:
    assert same_json(b"[1, 2.0, true]", [1.0, 2, True], None)
    assert same_json(b'{"a": [1], "b": null}', {"b": None, "a": [1]}, None)
    assert not same_json(b'{"a": 1}', {"a": 1, "b": 2}, None)
    assert not same_json(b"[1, 2]", [1], None)
    assert not same_json(b'"1"', 1, None)
    assert not same_json(b"", 1, None)
    assert not same_json(b"\xff", 1, None)
    assert not same_json(b"[" * 900, [], None)
    assert not same_json(b"NaN", 1.0, 1e-6)
    assert same_json(b"NaN", float("nan"), None)
    assert same_json(b"[1.0000001]", [1.0], 1e-6)
    assert not same_json(b"[1.0000001]", [1.0], None)
    assert not same_json(b"1" + b"0" * 400, 1.0, 1e-6)
    assert same_json(json.dumps("é" * 3000).encode(), "é" * 3000, None)
