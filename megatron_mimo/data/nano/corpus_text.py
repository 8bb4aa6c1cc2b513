"""Text and code that every Python installation carries.

`code` is the source of the standard library's shorter modules, `text` the docstrings of its longer ones and the topics
of `help()` (chapters of the language reference). A module gives to one of the two only, so that no held-out docstring
is trained on as code. Nothing depends on which packages are installed: the same Python gives the same corpus.
"""

import ast
import itertools
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from megatron_mimo.data.document import cut_paragraphs

LONGEST_CODE_BYTES = 12_000
"""Modules up to here are code documents; the docstrings of longer ones are text."""
LONGEST_TEXT_CHARACTERS = 6_000
_SKIPPED_FOLDERS = {
    "site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "lib2to3",
    "__pycache__", "lib-dynload", "ensurepip", "turtledemo",
}  # fmt: skip


def code_texts() -> Iterator[tuple[str, str]]:
    """Yield `(id, source)` of the standard library's shorter modules."""
    for name, path in _modules():
        if path.stat().st_size <= LONGEST_CODE_BYTES:
            yield name, path.read_text(encoding="utf-8", errors="replace")


def prose_texts() -> Iterator[tuple[str, str]]:
    """Yield `(id, text)` of help topics and docstrings, cut between paragraphs."""
    for name, paragraphs in itertools.chain(_topics(), _docstrings()):
        for part, text in enumerate(cut_paragraphs(paragraphs, LONGEST_TEXT_CHARACTERS)):
            yield f"{name}#{part}", text


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield `(id, text)` of the topics of `help()` alone: nothing has to be parsed for them."""
    for name, paragraphs in _topics():
        yield name, "\n\n".join(paragraphs)


def _modules() -> Iterator[tuple[str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not _SKIPPED_FOLDERS & set(relative.parts):
            yield relative.as_posix(), path


def _paragraphs(text: str) -> list[str]:
    return [part.strip("\n") for part in re.split(r"\n\s*\n", text) if part.strip()]


def _topics() -> Iterator[tuple[str, list[str]]]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave the help texts out
        return
    for name, text in sorted(topics.items()):
        yield f"topics/{name}", _paragraphs(text)


def _docstrings() -> Iterator[tuple[str, list[str]]]:
    for name, path in _modules():
        if path.stat().st_size > LONGEST_CODE_BYTES:
            tree = ast.parse(path.read_bytes())
            documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
            yield (f"docstrings/{name}", [doc for node in nodes if (doc := ast.get_docstring(node))])
