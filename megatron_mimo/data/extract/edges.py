"""The edges of the written text: scraps of the frame before the title and after the last sentence."""

import re

_SENTENCE_END = re.compile(r"[.!?:;。！？：；…][\"”’')\]」』）]*$|\$\$$|```$|\$[.,]?$")
_HEADING = re.compile(r"#{1,6} ")
_BLOCK = re.compile(r"```|\$\$|> |- |\d+\. |\| |---")
_MAX_SCRAP_CHARACTERS = 100
_MAX_LEADING_BLOCKS = 12


def trim_edges(blocks: list[str]) -> list[str]:
    """Without short lines that are no sentence before the first heading and after the last real block."""
    end = len(blocks)
    while end and (_is_scrap(blocks[end - 1]) or _HEADING.match(blocks[end - 1])):
        end -= 1
    if end == 0:
        return blocks
    start = next((at for at, block in enumerate(blocks[:end]) if _HEADING.match(block)), 0)
    if start > _MAX_LEADING_BLOCKS or not all(_is_scrap(block) or block.startswith("- ") for block in blocks[:start]):
        start = 0
    return _without_byline(blocks[start:end])


def _without_byline(blocks: list[str]) -> list[str]:
    """Without the scraps between the title and the first real block: names, dates, buttons."""
    if not blocks or not _HEADING.match(blocks[0]):
        return blocks
    end = 1
    while end < len(blocks) and _is_scrap(blocks[end]):
        end += 1
    return blocks if end == len(blocks) else blocks[:1] + blocks[end:]


def _is_scrap(block: str) -> bool:
    if _HEADING.match(block) or _BLOCK.match(block) or len(block) > _MAX_SCRAP_CHARACTERS:
        return False
    return not _SENTENCE_END.search(block) and not any(sign in block for sign in "$`\\^_=")
