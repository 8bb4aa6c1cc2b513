"""The 13 kinds of RULER, and the prompts, answer prefixes and answer lengths of their five families."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

CountTokens = Callable[[str], int]
Needle = Literal["word", "number", "uuid"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind; the fields after `family` are those of needles."""

    family: Literal["needles", "variables", "common_words", "frequent_words", "documents"]
    haystack: Literal["noise", "essay", "needle", ""] = ""
    key: Needle = "word"
    value: Needle = "number"
    num_keys: int = 1
    num_values: int = 1
    num_queries: int = 1
    files: tuple[str, ...] = ()
    """Of questions about documents: usual names of the data set's file, without the ending."""


KINDS: dict[str, Kind] = {
    "niah_single_1": Kind(family="needles", haystack="noise"),
    "niah_single_2": Kind(family="needles", haystack="essay"),
    "niah_single_3": Kind(family="needles", haystack="essay", value="uuid"),
    "niah_multikey_1": Kind(family="needles", haystack="essay", num_keys=4),
    "niah_multikey_2": Kind(family="needles", haystack="needle"),
    "niah_multikey_3": Kind(family="needles", haystack="needle", key="uuid", value="uuid"),
    "niah_multivalue": Kind(family="needles", haystack="essay", num_values=4),
    "niah_multiquery": Kind(family="needles", haystack="essay", num_keys=4, num_queries=4),
    "vt": Kind(family="variables"),
    "cwe": Kind(family="common_words"),
    "fwe": Kind(family="frequent_words"),
    "qa_1": Kind(family="documents", files=("squad", "dev-v2.0")),
    "qa_2": Kind(family="documents", files=("hotpotqa", "hotpot_dev_distractor_v1")),
}


@dataclass(frozen=True)
class Wording:
    """What frames a context."""

    prompt: str
    """With `{context}` and `{query}`."""
    prefix: str
    """What the answer begins with: base models continue it."""
    answer_tokens: int


WORDINGS = {
    "needles": Wording(
        "Some special magic {things} are hidden within the following text. Make sure to memorize it. I will quiz you "
        "about the {things} afterwards.\n{context}\nWhat are all the special magic {things} for {query} mentioned in "
        "the provided text?",
        " The special magic {things} for {query} mentioned in the provided text are",
        128,
    ),
    "needle": Wording(
        "A special magic {things} is hidden within the following text. Make sure to memorize it. I will quiz you about "
        "the {things} afterwards.\n{context}\nWhat is the special magic {things} for {query} mentioned in the provided "
        "text?",
        " The special magic {things} for {query} mentioned in the provided text is",
        128,
    ),
    "variables": Wording(
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\nQuestion: "
        "Find all variables that are assigned the value {query} in the text above.",
        " Answer: According to the chain(s) of variable assignment in the text above, 5 variables are assigned the "
        "value {query}, they are: ",
        30,
    ),
    "common_words": Wording(
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
        "appear most often.\n{context}\nQuestion: What are the 10 most common words in the above list?",
        " Answer: The top 10 words that appear most often in the list are:",
        120,
    ),
    "frequent_words": Wording(
        "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
        "appeared coded words. {context}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
        "What are the three most frequently appeared words in the above coded text?",
        " Answer: According to the coded text above, the three most frequently appeared words are:",
        50,
    ),
    "documents": Wording(
        "Answer the question based on the given documents. Only give me the answer and do not output any other words."
        "\n\nThe following are given documents.\n\n{context}\n\nAnswer the question based on the given documents. Only "
        "give me the answer and do not output any other words.\n\nQuestion: {query}",
        " Answer:",
        32,
    ),
}
"""As NVIDIA's generator asks."""


@dataclass(frozen=True)
class Draft:
    """A problem before its length is known."""

    fit: Callable[[int, CountTokens], str]
    """(budget in tokens, counter) -> the longest prompt within it. Raises TooSmall."""
    prefix: str
    expected: tuple[str, ...]


class TooSmall(Exception):
    """Even the smallest problem of a kind is longer than the context."""
