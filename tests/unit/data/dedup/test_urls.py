"""Spellings of one page meet, different pages stay apart, nothing breaks on strange input."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_mimo.data.dedup import urls
from megatron_mimo.data.dedup.urls import canonical_url

SAME = [
    ("HTTP://Example.COM/a", "https://example.com/a"),
    ("http://example.com:80/a", "https://example.com:443/a"),
    ("http://www.example.com", "http://example.com/"),
    ("http://www2.example.com/", "http://example.com."),
    ("http://user:secret@example.com/a", "http://example.com/a"),
    ("http://example.com/a#section-2", "http://example.com/a"),
    ("http://example.com/a/?", "http://example.com/a"),
    ("http://example.com//a///b/", "http://example.com/a/b"),
    ("http://example.com/a/./b/../c", "http://example.com/a/c"),
    ("http://example.com/../a", "http://example.com/a"),
    ("http://example.com/%7euser/%e4%b8%ad", "http://example.com/~user/中"),
    ("http://example.com/a?b=2&a=1", "http://example.com/a?a=1&b=2"),
    ("http://example.com/a?utm_source=x&id=3&fbclid=abc&UTM_Medium=y", "http://example.com/a?id=3"),
    ("http://example.com/a?spm=1001.2&gclid=3", "http://example.com/a"),
    ("http://example.com/a;jsessionid=0A1B?x=1", "http://example.com/a?x=1"),
    ("http://example.com/a?PHPSESSID=1234&x=1", "http://example.com/a?&x=1&"),
    ("http://example.com/a?sid=0123456789abcdef0123456789abcdef&t=7", "http://example.com/a?t=7"),
    ("http://example.com/?q=a+b", "http://example.com/?q=a%20b"),
    ("http://bücher.example/a", "http://xn--bcher-kva.example/a"),
    ("  http://example.com/a\n", "http://example.com/a"),
]
DIFFERENT = [
    ("http://example.com/a", "http://example.com/A"),
    ("http://example.com/a", "http://example.org/a"),
    ("http://example.com:8080/a", "http://example.com/a"),
    ("http://example.com:443/a", "http://example.com/a"),
    ("http://example.com/a?id=1", "http://example.com/a?id=2"),
    ("http://example.com/a?id=1", "http://example.com/a"),
    ("http://example.com/a?x=1%262", "http://example.com/a?x=1&2"),
    ("http://example.com/a?a=b%3dc", "http://example.com/a?a%3db=c"),
    ("http://example.com/#!/one", "http://example.com/#!/two"),
    ("http://example.com/article?sid=24", "http://example.com/article?sid=25"),
    ("http://example.com/talk?session_id=24", "http://example.com/talk"),
    ("http://blog.example.com/", "http://example.com/"),
    ("http://www.com/", "http://com/"),
    ("http://example.com/a%2Bb", "http://example.com/a%20b"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_one_page(one: str, other: str) -> None:
    assert canonical_url(one) == canonical_url(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_pages_that_differ(one: str, other: str) -> None:
    assert canonical_url(one) != canonical_url(other)


def test_the_canonical_spelling() -> None:
    assert canonical_url("https://www.Example.com/a/?b=1&utm_id=2#top") == "example.com/a?b=1"


@pytest.mark.parametrize("text", ["", "urn:isbn:123", "file:///a//b", "dump.warc.gz:81234", "http://", "http://[::1/a"])
def test_what_is_no_url_stays(text: str) -> None:
    assert canonical_url(text) == text


HOSTS = ["example.com", "www.example.com", "www2.www.a.b.", "www.com", "..", "-", "a..b"]
PATHS = st.lists(st.sampled_from(["", ".", "..", "a", "~b-1_.html", "sid=1"]), max_size=5).map("/".join)
QUERIES = st.lists(st.sampled_from(["a=1", "=", "b", "a==2", "", "utm_id=1", "sid=" + "0a" * 12, "phpsessid=3"]))
PLAIN_URLS = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(HOSTS),
    PATHS.map(lambda path: f"/{path}" if path else ""),
    QUERIES.map(lambda pieces: "?" + "&".join(pieces) if pieces else ""),
    st.sampled_from(["", "#", "#top"]),
)


@given(PLAIN_URLS)
def test_the_short_way_of_plain_urls_is_the_long_one(url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urls, "_SIMPLE", re.compile(r"(?!)"))
        expected = canonical_url(url)
    assert canonical_url(url) == expected


URLS = st.builds(
    "http://{}{}{}".format,
    st.sampled_from(["a.b", "WWW.a.b:80", "中文.cn", "[::1]:8080", "x@y.z."]),
    st.text("abc/%.;~+2Ff=中\ud800 ()", max_size=20).map("/{}".format),
    st.text("ab&=%2Bf+;?#!/utm_\0é", max_size=20).map("?{}".format),
)


@given(st.one_of(st.text(max_size=40), st.text(max_size=40).map("http://a.b/{}".format), URLS))
def test_canonical_urls_are_fixed_points(url: str) -> None:
    once = canonical_url(url)
    if url.startswith("http://") and once != url.strip():
        assert canonical_url("http://" + once) == once
