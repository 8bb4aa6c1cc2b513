"""Text and code that every Python installation carries.

`code` is the source of the standard library's shorter modules, `text` the docstrings of its longer ones, the topics of
`help()` (chapters of the language reference) and the descriptions and licences of installed packages. A module gives
to one of the two only, so that no held-out docstring is trained on as code.
"""

import ast
import importlib.metadata
import itertools
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from megatron_mimo.data.document import cut_paragraphs

LONGEST_CODE_BYTES = 28_000
"""Modules up to here are code documents; the docstrings of longer ones are text."""
LONGEST_TEXT_CHARACTERS = 6_000
PACKAGES_MAX_CHARACTERS = 700_000
"""Share of the text that depends on which packages are installed."""
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
    """Yield `(id, text)` of help topics, docstrings, package descriptions and licences, cut between paragraphs."""
    for name, paragraphs in itertools.chain(_topics(), _docstrings(), _packages()):
        for part, text in enumerate(cut_paragraphs(paragraphs, LONGEST_TEXT_CHARACTERS)):
            yield f"{name}#{part}", text


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


def _packages() -> Iterator[tuple[str, list[str]]]:
    characters = 0
    distributions = {d.metadata["Name"].lower(): d for d in importlib.metadata.distributions() if d.metadata["Name"]}
    for name, distribution in sorted(distributions.items()):
        for file, text in _package_texts(distribution):
            characters += len(text)
            if characters > PACKAGES_MAX_CHARACTERS:
                return
            yield f"packages/{name}/{file}", _paragraphs(text)


def _package_texts(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, str]]:
    description = distribution.metadata.get_payload()  # type: ignore[attr-defined]
    if isinstance(description, str) and 500 < len(description) < 20_000:
        yield "description", description
    for file in sorted(distribution.files or [], key=str):
        if re.match(r"(LICEN[CS]E|COPYING|NOTICE)", file.name, re.IGNORECASE) and ".dist-info" in str(file):
            path = Path(str(file.locate()))
            if path.is_file() and path.stat().st_size < 20_000:
                yield file.name, path.read_text(encoding="utf-8", errors="replace")
