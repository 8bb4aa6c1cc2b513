"""The numpy features against a naive reading of their definition."""

import itertools
import re
import time

import numpy as np
import pytest

from megatron_mimo.data.tag.features import SURFACE_NAMES, FeatureHasher
from megatron_mimo.data.tag.language import detect_language

TEXTS = [
    "Let f be continuous. Then f is bounded, and f attains its bounds.",
    "x = 3.14\n\n\tfor i in range(10):\n",
    "因此函数有界。所以 f(x) ≥ 0，证毕。",
    "naïve Ærøskøbing ÉCOLE été 😀😀 end",
    "a",
    "aaaa aaaa aaaa",
]


def naive_features(text: str) -> set[tuple[str, ...]]:
    """Tokens, pairs and four-letter pieces, as sets of texts."""
    lowered = re.sub(r"\d", "0", text.lower())
    tokens = re.findall(r"\n|[\u3040-\u9fff]|0+|(?:(?![\u3040-\u9fff\u3000-\u303f])[^\W\d_])+|[^\w\s]|_", lowered)
    tokens = [token for token in tokens if token]
    pieces = {("piece", word[i : i + 4]) for word in re.findall(r"[a-z]+", lowered) for i in range(len(word) - 3)}
    return {("token", token) for token in tokens} | set(itertools.pairwise(tokens)) | pieces


@pytest.mark.parametrize("text", TEXTS[:3] + TEXTS[4:])
def test_as_many_features_as_a_naive_reading(text: str) -> None:
    columns, values = FeatureHasher(hash_bits=40).ngrams(text)
    assert len(columns) == len(naive_features(text))
    assert np.linalg.norm(values) == pytest.approx(1.0)


def test_a_feature_is_the_same_wherever_it_stands() -> None:
    hasher = FeatureHasher(hash_bits=40)
    alone, _ = hasher.ngrams("continuous function")
    for text in ("A continuous function", "\n\n\n12 continuous function. " + "word " * 500):
        assert set(alone) <= set(hasher.ngrams(text)[0])
    assert not set(alone) <= set(hasher.ngrams("function continuous")[0])


def test_case_and_digits_do_not_matter_but_their_number_does() -> None:
    hasher = FeatureHasher(hash_bits=40)
    assert list(hasher.ngrams("Year 1995")[0]) == list(hasher.ngrams("YEAR 2024")[0])
    assert list(hasher.ngrams("year 1995")[0]) != list(hasher.ngrams("year 95")[0])


@pytest.mark.parametrize("text", ["", " ", "\n", "\x00", "\ud800", "İ" * 10_000, "a" * 100_000, *TEXTS])
def test_nothing_breaks_it(text: str) -> None:
    hasher = FeatureHasher()
    columns, values = hasher.ngrams(text)
    surface = hasher.surface(text)
    assert len(columns) == len(values) and np.isfinite(values).all()
    assert surface.shape == (len(SURFACE_NAMES),) and np.isfinite(surface).all() and (abs(surface) < 12).all()


def test_the_rest_of_a_long_text_costs_nothing() -> None:
    hasher, text = FeatureHasher(max_characters=1000), "word " * 2_000_000
    started = time.process_time()
    hasher.ngrams(text), hasher.surface(text)
    assert time.process_time() - started < 0.1


def test_language_of_short_pages() -> None:
    assert detect_language("Der schnelle braune Fuchs springt über den faulen Hund und läuft davon.")[0] == "de"
    assert detect_language("这是一个关于数学的页面，我们证明了定理。")[0] == "zh"
    assert detect_language("The reason is simple, and it follows from the definition.\n" * 50)[0] == "en"
    assert detect_language("1 2 3 + = 44") == ("", 0.0)
