"""The report's filters on fine-tuning data (section 4.1), a function each: None keeps, a text is the reason to drop.

| filter | drops |
|---|---|
| mixed language | a response in another script than its query, which does not ask for it either |
| incomplete response | an open think block, an open code fence, an open \\boxed{, or nothing after the thinking |
| responses per query | the ninth and every further response to the same query |
| benchmark overlap | a query that shares a 16-gram (or the index's n) with a benchmark's text |
"""

import hashlib
import re
from collections import Counter
from pathlib import Path

from megatron_mimo.data.chat.conversation import Conversation
from megatron_mimo.data.chat.languages import letters_by_script, may_answer_in
from megatron_mimo.data.chat.prose import split_fences, without_code
from megatron_mimo.data.decontaminate.index import load_index

MIN_LETTERS = 20
MIXED_SHARE = 0.3
"""A response is mixed when at least this share of its letters, code and formulas left out, is of scripts that its query
neither uses nor asks for."""
THINK, END_OF_THINKING = "<think>", "</think>"
CLOSED_THINKING = re.compile(r"^\s*</think>\s*$", re.MULTILINE)
"""Of an answer whose opening mark stands in the prompt."""
BOX, BRACE = "\\boxed{", re.compile(r"\\.|[{}]", re.DOTALL)


def incomplete_response(conversation: Conversation) -> str | None:
    """The response was cut off."""
    if not conversation.messages:
        return None
    answer = _after_thinking(conversation.response)
    if answer is None:
        return "incomplete response: open think block"
    if not answer.strip() and not conversation.messages[-1].tool_calls:
        return "incomplete response: no answer"
    if fence := split_fences(answer).unclosed:
        return f"incomplete response: open code fence {fence[:40]!r}"
    return "incomplete response: open \\boxed" if _has_open_box(without_code(answer)) else None


def mixed_language(conversation: Conversation) -> str | None:
    """The response leaves the scripts of the query unasked, as degenerate answers do."""
    query = "\n".join(message.content for message in conversation.messages[:-1])
    asked, answered = letters_by_script(query), letters_by_script(conversation.response)
    total = sum(answered.values())
    if sum(asked.values()) < MIN_LETTERS or total < MIN_LETTERS:
        return None
    foreign = {
        script: number for script, number in answered.items() if not asked[script] and not may_answer_in(query, script)
    }
    if sum(foreign.values()) < MIXED_SHARE * total:
        return None
    return f"mixed language: {sum(foreign.values()):,} of {total:,} letters are {', '.join(foreign)}, unasked for"


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


def _after_thinking(response: str) -> str | None:
    """What follows the think blocks at its beginning; None where one is open. Prose may mention the marks."""
    answer = response
    while answer.lstrip().startswith(THINK):
        _, end, answer = answer.partition(END_OF_THINKING)
        if not end:
            return None
    closed = None if THINK in response else CLOSED_THINKING.search(response)
    return response[closed.end() :] if closed else answer


def _has_open_box(text: str) -> bool:
    start = text.rfind(BOX)
    if start < 0:
        return False
    depth = 0
    for brace in BRACE.findall(text[start + len(BOX) - 1 :]):  # an escaped brace is a sign of the answer
        depth += (brace == "{") - (brace == "}")
        if brace == "}" and depth == 0:
            return False
    return True
