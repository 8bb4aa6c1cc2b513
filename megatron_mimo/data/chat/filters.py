"""The report's filters on fine-tuning data (section 4.1), a function each: None keeps, a text is the reason to drop.

| filter | drops |
|---|---|
| mixed language | a response in another script than its query, where most letters of the query are of one script |
| incomplete response | an open think block, an open code fence, an open \\boxed{, or nothing behind the thinking |
| responses per query | the ninth and every further response to the same query |
| benchmark overlap | a query that shares a 16-gram (or the index's n) with a benchmark's text |
"""

import hashlib
import unicodedata
from collections import Counter
from pathlib import Path

from megatron_mimo.data.chat.conversation import Conversation
from megatron_mimo.data.decontaminate.index import load_index

MIN_LETTERS = 20
MIXED_SHARE = 0.3
"""A response is mixed when at least this share of its letters, code left out, is of a script its query does not use."""
_SCRIPTS = {"CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana", "HANGUL": "hangul", "CYRILLIC": "cyrillic"}
_SCRIPTS |= {"ARABIC": "arabic", "LATIN": "latin", "DEVANAGARI": "devanagari", "THAI": "thai", "HEBREW": "hebrew"}


def incomplete_response(conversation: Conversation) -> str | None:
    """The response was cut off."""
    response = conversation.response
    if "<think>" in response and "</think>" not in response:
        return "incomplete response: open think block"
    answer = response.split("</think>")[-1]
    if conversation.messages and not answer.strip() and not conversation.messages[-1].tool_calls:
        return "incomplete response: no answer"
    if answer.count("```") % 2:
        return "incomplete response: open code fence"
    return "incomplete response: open \\boxed" if _has_open_box(answer) else None


def mixed_language(conversation: Conversation) -> str | None:
    """The response leaves the scripts of the query, as translated or degenerate answers do."""
    asked = letters_by_script(" ".join(message.content for message in conversation.messages[:-1]))
    answered = letters_by_script(conversation.response)
    if sum(asked.values()) < MIN_LETTERS or sum(answered.values()) < MIN_LETTERS:
        return None
    foreign = sum(number for script, number in answered.items() if not asked[script])
    return "mixed language" if foreign >= MIXED_SHARE * sum(answered.values()) else None


class ResponsesPerQuery:
    """Counts the responses of each query; keeps 16 bytes a query."""

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self._seen: Counter[bytes] = Counter()

    def __call__(self, conversation: Conversation) -> str | None:
        key = hashlib.blake2b(conversation.query.encode(errors="replace"), digest_size=16).digest()
        self._seen[key] += 1
        return "too many responses a query" if self._seen[key] > self.most else None


class BenchmarkOverlap:
    """Looks queries up in an index made by `megatron-mimo decontaminate`."""

    def __init__(self, index_folder: str) -> None:
        self._index = load_index(Path(index_folder))

    def __call__(self, conversation: Conversation) -> str | None:
        queries = [message.content for message in conversation.messages if message.role == "user"]
        for text in queries or [conversation.text or ""]:
            if matches := self._index.find(text):
                return f"overlap with {matches[0].benchmark}: {matches[0].item}"
        return None


def letters_by_script(text: str) -> Counter[str]:
    """Letters outside fenced code by script; scripts beyond the common ones count as `other`."""
    prose = "".join(text.split("```")[::2])
    return Counter(_script(letter) for letter in prose if letter.isalpha())


def _script(letter: str) -> str:
    if letter.isascii():
        return "latin"
    name = unicodedata.name(letter, "").split(" ")[0]
    return _SCRIPTS.get(name, "other")


def _has_open_box(text: str) -> bool:
    start = text.rfind("\\boxed{")
    if start < 0:
        return False
    depth = 0
    for character in text[start:]:
        depth += (character == "{") - (character == "}")
        if character == "}" and depth == 0:
            return False
    return True
