"""Signatures against the definition: tokens by hand, exact Jaccard, and the numpy version byte for byte."""

import re
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.data.dedup import minhash
from megatron_mimo.data.dedup.minhash import MinHash, is_empty, shingle_hashes, token_hashes

WORDS = [f"word{i}" for i in range(3000)]
PIECES = st.one_of(
    st.text(alphabet=st.characters(codec=None, exclude_categories=[]), max_size=30),
    st.sampled_from(
        [
            "\0",
            "\ud800",
            "\udfff x",
            "数学是",
            "e\u0301",
            "é",
            "👩‍👩‍👧",
            "ΣΑΣ",
            "ภาษาไทย",
            "\U0010ffff",
            "\U0003ffff",
            "\u00ad",
            "한국어",
        ]
    ),
    st.sampled_from(["the quick brown fox jumps over", " ", "\n", "x" * 300, "1 2 3 4 5 6 7", "日本語のテキスト"]),
)
TEXTS = st.lists(st.lists(PIECES, max_size=12).map("".join), max_size=4)

native = pytest.mark.skipif(not minhash.NATIVE, reason="the extension was not built (no C compiler)")


def tokens(text: str) -> list[bytes]:
    return [bytes(value) for value in token_hashes(text).view("V8")]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Hello, WORLD! it's 3.14", "hello world it s 3 14"),
        ("数学是 science", "数 学 是 science"),
        ("Ｆｕｌｌ Ｗｉｄｔｈ", "full width"),
        ("cafe\u0301 na\u00efve co\u00adop", "café naive coop"),
        ("ภาษา", " ".join("ภาษา")),
        ("日本語のテスト。", " ".join("日本語のテスト")),
        ("x² \ufb01ne", "x2 \ufb01ne"),
        ("한국어 문서", "한국어 문서"),
        ("a\0b\ud800c", "a b c"),
    ],
)
def test_normalisation(text: str, same: str) -> None:
    assert tokens(text) == tokens(same)
    assert len(tokens(text)) == len(same.split())
    assert np.array_equal(MinHash().signatures([text]), MinHash().signatures([same]))


def test_digits_and_order_matter() -> None:
    assert not np.array_equal(shingle_hashes("1 + 2 = 3", 5), shingle_hashes("1 + 2 = 4", 5))
    assert not np.array_equal(token_hashes("ab"), token_hashes("ba"))


@native
@settings(max_examples=300, deadline=None)
@given(texts=TEXTS, ngram=st.integers(1, 7))
def test_native_equals_numpy(texts: list[str], ngram: int) -> None:
    scheme = MinHash(num_bands=3, rows=5, ngram=ngram)
    assert scheme.signatures(texts).tobytes() == scheme.signatures_numpy(texts).tobytes()


@native
@settings(max_examples=300, deadline=None)
@given(texts=TEXTS)
def test_native_white_space_is_that_of_bytes(texts: list[str]) -> None:
    for text in [*texts, *(text.encode("ascii", "ignore").decode() for text in texts), "a \t\n\r\v\f\x1c\x85\xa0b"]:
        expected = b"".join(text.encode("utf-8", "surrogatepass").split())
        assert minhash._minhash.without_white_space(text) == expected  # type: ignore[union-attr]
    with pytest.raises(TypeError, match="no string"):
        minhash._minhash.without_white_space(b"a")  # type: ignore[union-attr]


@native
@pytest.mark.parametrize("permutations", [1, 3, 16, 112, 130])
def test_native_equals_numpy_on_long_texts(permutations: int) -> None:
    rng = np.random.default_rng(permutations)
    texts = [" ".join(rng.choice(WORDS, size)) for size in (1, 4, 5, 6, 255, 260, 261, 5000)]
    texts += ["数学" * 700, "😀" * 500, "ab\ud800" * 400, ""]
    scheme = MinHash(num_bands=permutations, rows=1)
    assert scheme.signatures(texts).tobytes() == scheme.signatures_numpy(texts).tobytes()


def test_texts_without_tokens_are_empty() -> None:
    signatures = MinHash().signatures(["", " \n\0", "!?;", "\ud800", "👍👍", "a"])
    assert is_empty(signatures).tolist() == [True] * 5 + [False]


def test_agreement_estimates_jaccard() -> None:
    """The share of equal minima is an unbiased estimate: within 4 standard deviations for 1 024 permutations."""
    scheme = MinHash(num_bands=128, rows=8, ngram=1)
    for shared in (100, 500, 900, 990):
        texts = [" ".join(WORDS[:1000]), " ".join(WORDS[1000 - shared : 2000 - shared])]
        jaccard = shared / (2000 - shared)
        one, other = scheme.signatures(texts)
        assert abs((one == other).mean() - jaccard) < 4 * (jaccard * (1 - jaccard) / 1024) ** 0.5


@pytest.mark.parametrize(("overlapping", "expected"), [(False, 1 - (1 - 0.75**8) ** 14), (True, None)])
def test_band_keys_collide_as_the_theory_says(overlapping: bool, expected: float | None) -> None:
    """Share of pairs of one Jaccard with a common key, within 4 standard deviations."""
    scheme, rng = MinHash(ngram=1, overlapping=overlapping), np.random.default_rng(0)
    if expected is None:  # half bands in a circle, by trial
        half = rng.random((100_000, 28)) < 0.75**4
        expected = float((half & np.roll(half, 1, axis=1)).any(axis=1).mean())
    assert scheme.collision_probability(0.75) == pytest.approx(expected, abs=0.005)
    hits = 0
    for _ in range(800):
        words = rng.integers(0, 2**40, 200).astype(str)
        keys = scheme.band_keys(scheme.signatures([" ".join(words[:175]), " ".join(words[25:])]))
        hits += bool((keys[0] == keys[1]).any())
    assert abs(hits / 800 - expected) < 4 * (expected * (1 - expected) / 800) ** 0.5


def test_bands_have_their_own_keys() -> None:
    keys = MinHash(overlapping=True).band_keys(np.zeros((1, 112), np.uint32))
    assert len(set(keys[0].tolist())) == 28


@native
def test_bad_arguments_are_refused() -> None:
    signatures = minhash._minhash.signatures  # type: ignore[union-attr]
    table, numbers = np.zeros(8, np.uint32), np.ones(4, np.uint32)
    with pytest.raises(TypeError, match="text 1 is no string"):
        signatures(["a", b"b"], table, numbers, numbers, 5)
    for bad in [
        (table, numbers, numbers, 0),
        (table, numbers, numbers, 65),
        (table, numbers, numbers[:2], 5),
        (table, numbers[:0], numbers[:0], 5),
        (np.zeros(7, np.uint8), numbers, numbers, 5),
        (np.zeros(0x110001, np.uint32), numbers, numbers, 5),
    ]:
        with pytest.raises(ValueError):
            signatures(["a"], *bad)
    with pytest.raises(TypeError):
        signatures(3, table, numbers, numbers, 5)
    assert signatures([], table, numbers, numbers, 5) == b""
    assert signatures(["\U0010ffff a"], table[:0], numbers, numbers, 5) == b"\xff" * 16


def test_hand_made_token() -> None:
    """The polynomial and the mixing, computed with Python's integers."""

    def mixed(h: int) -> int:
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            h = (h ^ h >> 33) * factor % 2**64
        return h ^ h >> 33

    def naive(text: str) -> list[int]:
        result = []
        for word in re.findall(r"[a-z0-9]+", text.lower()):
            h = 0
            for character in word:
                h = (h + ord(character)) * minhash.CHARACTER_BASE % 2**64
            result.append(mixed(h))
        return result

    text = "The quick (brown) fox, 42 times; jumps!"
    assert token_hashes(text).tolist() == naive(text)
    window = 0
    for token in naive(text)[1:6]:
        window = (window * minhash.TOKEN_BASE + token) % 2**64
    assert shingle_hashes(text, 5)[1] == mixed(window) >> 32


@native
def test_other_threads_run_meanwhile() -> None:
    """The lock of the interpreter is released: this thread counts while the other one signs."""
    thread = threading.Thread(target=MinHash().signatures, args=(["some words " * 2_000_000],))
    steps = 0
    thread.start()
    while thread.is_alive():
        steps += 1
    assert steps > 1000


def test_without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["The quick brown fox jumps over the lazy dog", "数学是科学", ""]
    expected = MinHash().signatures(texts)
    monkeypatch.setattr(minhash, "_minhash", None)
    assert np.array_equal(MinHash().signatures(texts), expected)
