"""Bytes become the text that a browser would show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_mimo.data.extract import decode

CHINESE = "联合索引按照列的先后顺序排序，先比较第一列，相等时再比较第二列。" * 20
JAPANESE = "潮の満ち引きは月の引力によって起こります。ひらがなとカタカナを使います。" * 20
RUSSIAN = "Приливы вызываются притяжением Луны и Солнца, и море поднимается дважды в сутки. " * 20
GERMAN = "Die Gezeiten ändern sich zweimal täglich – das weiß jeder Fischer. "


@pytest.mark.parametrize(
    ("text", "encoding", "head"),
    [
        (CHINESE, "utf-8", ""),
        (CHINESE, "utf-8", '<meta charset="gbk">'),
        (CHINESE, "gb18030", '<meta charset="gb2312">'),
        (CHINESE, "gbk", '<meta http-equiv="Content-Type" content="text/html; charset=GBK">'),
        (CHINESE, "gb18030", ""),
        (JAPANESE, "shift_jis", '<meta charset="Shift_JIS">'),
        (JAPANESE, "euc_jp", ""),
        (RUSSIAN, "cp1251", ""),
        (RUSSIAN, "koi8-r", '<?xml version="1.0" encoding="KOI8-R"?>'),
        (GERMAN, "cp1252", '<meta charset="iso-8859-1">'),
        (GERMAN, "utf-16", ""),
        (GERMAN, "utf-8-sig", ""),
    ],
)
def test_pages_of_the_world(text: str, encoding: str, head: str) -> None:
    page = f"{head}<html><body><p>{text}</p></body></html>"
    assert decode(page.encode(encoding)) == page


def test_the_header_goes_before_the_page() -> None:
    assert decode("<meta charset='koi8-r'>Прилив".encode("cp1251"), "text/html; charset=windows-1251").endswith(
        "Прилив"
    )


def test_a_few_broken_bytes_are_replaced() -> None:
    assert decode(b'<meta charset="utf-8">' + b"a" * 300 + b"\xff") == '<meta charset="utf-8">' + "a" * 300 + "\ufffd"


@pytest.mark.parametrize("head", ['<meta charset="gbk">', '<meta charset="iso-8859-1">', ""])
@pytest.mark.parametrize("text", [CHINESE, RUSSIAN, GERMAN * 20])
def test_a_few_bad_bytes_do_not_make_utf8_something_else(text: str, head: str) -> None:
    data = f"{head}<p>{text}".encode()
    middle = data.index(text[40].encode(), len(data) // 2)
    for damaged in (data[:middle] + b"\xff" + data[middle:], data[:-1] + b"\xe5", data + b"\xa0<p>\x93"):
        found = decode(damaged, "text/html; charset=gbk")
        assert found.count("\ufffd") <= 2 and text[:30] in found


def test_one_utf8_character_does_not_make_a_page_utf8() -> None:
    page = '<meta charset="windows-1252">' + GERMAN * 3
    assert GERMAN in decode(page.encode("cp1252") + "…".encode())


@given(
    st.binary(max_size=300),
    st.sampled_from(["", "text/html; charset=", "charset=nonsense", "charset=utf-7", "charset=base64"]),
)
def test_any_bytes_give_a_text(data: bytes, content_type: str) -> None:
    assert isinstance(decode(data, content_type), str)
