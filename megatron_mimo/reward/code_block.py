"""The program of a response: its last fenced code block."""

import re
from collections.abc import Iterator

LANGUAGES = {
    "python": ("python", "py", "python3"),
    "cpp": ("cpp", "c++", "cc", "cxx", "c++17", "c++20"),
}
OPENING = re.compile(r"[ \t]*(?P<own>(`{3,})|(~{3,}))(?P<info>[^`\n]*)|.*?(?P<end>`{3,})(?P<word>[\w+#-]*)[ \t]*")
"""A fence on its own line with any words after it; or at the end of a line of text, with a language at most."""


def last_code_block(text: str, language: str = "python") -> str | None:
    """Contents of the last complete block fenced by ``` or ~~~, or None; a block that never ends is none.

    Blocks that name `language` come first, then blocks that name none: an example of the output after the program is
    no program. Blocks in other languages count where there is nothing else.
    """
    blocks = list(code_blocks(text))
    for wanted in (LANGUAGES.get(language, (language,)), ("",)):
        chosen = [content for name, content in blocks if name in wanted]
        if chosen:
            return chosen[-1]
    return blocks[-1][1] if blocks else None


def code_blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language in small letters, contents) of every complete block.

    Lines lose the indentation of their fence, as Markdown has it: blocks stand in lists.
    """
    fence, name, lines, indent = "", "", [], 0
    for line in text.split("\n"):
        rest = line.rstrip()
        if fence:
            content, closed, rest = split_at(fence, rest)
            if not closed:
                lines.append(without_indent(line, indent))
                continue
            last = without_indent(content, indent)
            yield name, "".join(f"{one}\n" for one in [*lines, *filter(None, [last])])
            fence = ""
        if match := OPENING.fullmatch(rest):
            fence = match["own"] or match["end"]
            words = re.split(r"[\s{.]+", (match["info"] or match["word"] or "").strip(" {."))
            name, lines = words[0].lower(), []
            indent = len(rest) - len(rest.lstrip()) if match["own"] else 0


def without_indent(line: str, indent: int) -> str:
    """The line without at most `indent` spaces or tabs at its beginning."""
    start = line[:indent]
    return start.lstrip(" \t") + line[indent:]


def split_at(fence: str, line: str) -> tuple[str, bool, str]:
    """A line of a block as (content, whether the fence closes the block, what follows it)."""
    stripped = line.lstrip()
    if re.match(f"{fence[0]}{{{len(fence)},}}(\\s|$)", stripped):
        return "", True, stripped.lstrip(fence[0])
    content = line.removesuffix(fence)
    return content, content != line and not content.endswith(fence[0]), ""
