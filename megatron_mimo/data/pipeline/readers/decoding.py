"""Bytes of a web page -> text, with the counts that a report wants."""

from megatron_mimo.data.encoding import decode
from megatron_mimo.data.pipeline.step import Task


def decode_page(data: bytes, task: Task, declared: str | None = None) -> str:
    """The page as text; `declared` is the charset of the HTTP header. Never fails: what fits nothing is replaced.

    Counts pages that are not UTF-8, and those in which something was replaced.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        task.count("read/not_utf8")
    text = decode(data, f"text/html; charset={declared}" if declared else "")
    if "\ufffd" in text:
        task.count("read/replaced_characters")
    return text
