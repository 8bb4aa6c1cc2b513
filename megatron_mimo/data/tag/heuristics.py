"""The filter rules of C4 and Gopher, written from the papers: the baseline that tagging replaces.

C4: Raffel et al., 2020, section 2.2. Gopher: Rae et al., 2021, appendix A.1.1, quality and repetition (table A1). Not
taken over: C4's list of bad words, its language filter and its deduplication, which are steps of their own here.
Both papers wrote these rules for English prose: mathematics and code often break them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task

# C4
C4_LINE_ENDS = (".", "!", "?", '"', "”")
C4_MIN_LINE_WORDS = 5
C4_MIN_SENTENCES = 3
C4_LINE_WORDS = ("javascript",)
C4_POLICY_LINES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
# Gopher, quality
GOPHER_WORDS = (50, 100_000)
GOPHER_MEAN_WORD_CHARACTERS = (3, 10)
GOPHER_MAX_SYMBOLS_A_WORD = 0.1
GOPHER_MAX_BULLET_LINES = 0.9
GOPHER_MAX_ELLIPSIS_LINES = 0.3
GOPHER_MIN_ALPHABETIC_WORDS = 0.8
GOPHER_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
GOPHER_MIN_STOP_WORDS = 2
# Gopher, repetition: the largest share of lines, of paragraphs, and of characters in them that may be duplicates,
GOPHER_MAX_DUPLICATE_LINES = 0.30
GOPHER_MAX_DUPLICATE_PARAGRAPHS = 0.30
GOPHER_MAX_DUPLICATE_LINE_CHARACTERS = 0.20
GOPHER_MAX_DUPLICATE_PARAGRAPH_CHARACTERS = 0.20
# of characters in the most frequent n-gram, and of characters in all duplicate n-grams.
GOPHER_MAX_TOP_NGRAM_CHARACTERS = {2: 0.20, 3: 0.18, 4: 0.16}
GOPHER_MAX_DUPLICATE_NGRAM_CHARACTERS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def c4_clean(text: str) -> tuple[str, str]:
    """The lines that C4 keeps, and why the page is dropped ("" when it is not)."""
    lowered = text.lower()
    if "{" in text:
        return "", "curly bracket"
    if "lorem ipsum" in lowered:
        return "", "lorem ipsum"
    lines = [line for line in map(str.strip, text.splitlines()) if _c4_keeps(line)]
    kept = "\n".join(lines)
    if len(re.findall(r"[.!?]+(?=[\s\"”)]|$)", kept)) < C4_MIN_SENTENCES:
        return kept, "too few sentences"
    return kept, ""


def _c4_keeps(line: str) -> bool:
    lowered = line.lower()
    return (
        line.endswith(C4_LINE_ENDS)
        and not line.endswith("...")
        and len(line.split()) >= C4_MIN_LINE_WORDS
        and not any(word in lowered for word in C4_LINE_WORDS + C4_POLICY_LINES)
    )


def gopher_quality(text: str) -> str:
    """Why the quality rules drop a text, "" when they keep it."""
    words = text.split()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not GOPHER_WORDS[0] <= len(words) <= GOPHER_WORDS[1]:
        return "number of words"
    if not GOPHER_MEAN_WORD_CHARACTERS[0] <= sum(map(len, words)) / len(words) <= GOPHER_MEAN_WORD_CHARACTERS[1]:
        return "mean word length"
    if max(text.count("#"), text.count("...") + text.count("…")) / len(words) > GOPHER_MAX_SYMBOLS_A_WORD:
        return "symbols"
    if sum(line.startswith(("•", "-", "*", "‣")) for line in lines) / len(lines) > GOPHER_MAX_BULLET_LINES:
        return "bullets"
    if sum(line.endswith(("...", "…")) for line in lines) / len(lines) > GOPHER_MAX_ELLIPSIS_LINES:
        return "ellipses"
    if sum(any(map(str.isalpha, word)) for word in words) / len(words) < GOPHER_MIN_ALPHABETIC_WORDS:
        return "words without letters"
    found = {word.strip(".,;:!?()\"'").lower() for word in words}
    return "" if len(found & GOPHER_STOP_WORDS) >= GOPHER_MIN_STOP_WORDS else "stop words"


def gopher_repetition(text: str) -> str:
    """Why the repetition rules drop a text, "" when they keep it."""
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    paragraphs = [part for part in map(str.strip, re.split(r"\n\s*\n", text)) if part]
    limits = (
        (lines, GOPHER_MAX_DUPLICATE_LINES, GOPHER_MAX_DUPLICATE_LINE_CHARACTERS, "lines"),
        (paragraphs, GOPHER_MAX_DUPLICATE_PARAGRAPHS, GOPHER_MAX_DUPLICATE_PARAGRAPH_CHARACTERS, "paragraphs"),
    )
    for parts, max_share, max_characters, what in limits:
        share, characters = _duplicates(parts)
        if share > max_share or characters > max_characters * len(text):
            return f"duplicate {what}"
    words = text.split()
    for n, limit in GOPHER_MAX_TOP_NGRAM_CHARACTERS.items():
        if _top_ngram_characters(words, n) > limit * len(text):
            return f"top {n}-gram"
    for n, limit in GOPHER_MAX_DUPLICATE_NGRAM_CHARACTERS.items():
        if _duplicate_ngram_characters(words, n) > limit * len(text):
            return f"duplicate {n}-grams"
    return ""


def _duplicates(parts: list[str]) -> tuple[float, int]:
    """Share of parts that repeat an earlier one, and the characters in them."""
    seen: set[str] = set()
    repeated = [part for part in parts if part in seen or seen.add(part)]
    return len(repeated) / max(len(parts), 1), sum(map(len, repeated))


def _top_ngram_characters(words: list[str], n: int) -> int:
    """Characters in all occurrences of the most frequent n-gram, 0 when none occurs twice."""
    counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    return max((count * sum(map(len, gram)) for gram, count in counts.items() if count > 1), default=0)


def _duplicate_ngram_characters(words: list[str], n: int) -> int:
    """Characters of words that stand in an n-gram seen earlier, each counted once."""
    seen: set[tuple[str, ...]] = set()
    covered = characters = 0
    for i in range(len(words) - n + 1):
        gram = tuple(words[i : i + n])
        if gram in seen:
            characters += sum(map(len, words[max(i, covered) : i + n]))
            covered = i + n
        seen.add(gram)
    return characters


@dataclass(kw_only=True)
class HeuristicsStep:
    """Drops what the rules drop; a baseline for comparisons, in no pipeline of the project."""

    name = "heuristics"
    rules: Literal["c4", "gopher", "both"] = "both"

    def __post_init__(self) -> None:
        if self.rules not in ("c4", "gopher", "both"):
            raise ConfigError("heuristics.rules", self.rules, "expected one of c4, gopher, both")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Drop by Gopher's rules, then clean lines and drop by C4's."""
        for document in documents:
            text, reason = apply_rules(document.text, self.rules)
            if reason:
                task.drop(document, self.name, reason)
            else:
                document.text = text
                yield document


def apply_rules(text: str, rules: str) -> tuple[str, str]:
    """The text that is left, and why it is dropped ("" when it is not)."""
    reason = (gopher_quality(text) or gopher_repetition(text)) if rules != "c4" else ""
    if reason or rules == "gopher":
        return text, f"gopher: {reason}" if reason else ""
    text, reason = c4_clean(text)
    return text, f"c4: {reason}" if reason else ""
