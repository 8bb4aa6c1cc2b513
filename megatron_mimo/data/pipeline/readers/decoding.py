"""Bytes of a web page -> text."""

import re

from megatron_mimo.data.pipeline.step import Task

try:
    from megatron_mimo.data.extract.encoding import decode as detect_and_decode
except ImportError:
    detect_and_decode = None

META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)
WHATWG_LABELS = {"iso-8859-1": "cp1252", "latin1": "cp1252", "ascii": "cp1252", "us-ascii": "cp1252"}
WHATWG_LABELS |= {"gb2312": "gb18030", "gbk": "gb18030", "ks_c_5601-1987": "cp949", "euc-kr": "cp949"}
WHATWG_LABELS |= {"shift_jis": "cp932", "sjis": "cp932", "iso-8859-9": "cp1254", "big5": "big5hkscs"}


def decode_page(data: bytes, task: Task, declared: str | None = None) -> str:
    """The page as text; `declared` is the charset of the HTTP header. Never fails: what fits nothing is replaced.

    Counts pages that are not UTF-8, and those in which something was replaced.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        task.count("read/not_utf8")
    text = _guessed(data, declared)
    if "\ufffd" in text:
        task.count("read/replaced_characters")
    return text


def _guessed(data: bytes, declared: str | None) -> str:
    """Text of bytes that are not valid UTF-8."""
    if detect_and_decode is not None:
        return detect_and_decode(data, f"text/html; charset={declared}" if declared else "")
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    meta = META_CHARSET.search(data[:4096])
    for label in (declared, meta and meta[1].decode("ascii"), "utf-8"):
        try:
            return data.decode(WHATWG_LABELS.get((label or "").lower(), label or "utf-8"))
        except (LookupError, UnicodeDecodeError):
            continue
    return data.decode("utf-8", errors="replace")
