"""Which blocks of a page are matter, from a hand-made truth: its text, or sentences that belong and do not belong.

A block is matter when half of its four-word sequences are in the truth; a short one when it is a line of the truth, or
stands in the truth and between two blocks of matter. Blocks that nothing is known of are NaN.
"""

import re

import numpy as np

from megatron_mimo.data.extract.blocks import Block

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
_SEQUENCE = 4
_LONG_TOKENS = 8
_LEAST_SHARE = 0.5
_WEIGHT_OF_SENTENCE = 6.0
_MOST_WEIGHT_OF_SENTENCES = 8.0


def tokens(text: str) -> list[str]:
    """Words in lower case; every Chinese, Japanese or Korean character is one."""
    return [token.lower() for token in _TOKEN.findall(text)]


def _sequences(words: list[str], length: int) -> set[tuple[str, ...]]:
    return set(zip(*(words[at:] for at in range(length)), strict=False))


def labels_of_text(blocks: list[Block], truth: str) -> tuple[np.ndarray, np.ndarray]:
    """(labels, weights), both [num_blocks], of a page whose main text is `truth`."""
    words = tokens(truth)
    known = {length: _sequences(words, length) for length in range(1, _SEQUENCE + 1)}
    lines = {" ".join(tokens(line)) for line in truth.split("\n")}
    own = [tokens(block.text) for block in blocks]
    labels, weights = np.full(len(blocks), np.nan), np.zeros(len(blocks))
    for at, block in enumerate(own):
        if len(block) >= _SEQUENCE:
            parts = list(zip(*(block[start:] for start in range(_SEQUENCE)), strict=False))
            labels[at] = sum(part in known[_SEQUENCE] for part in parts) >= _LEAST_SHARE * len(parts)
    long = [at for at, block in enumerate(own) if len(block) >= _LONG_TOKENS]
    for at, block in enumerate(own):
        if not block:
            continue
        weights[at] = (1 + len(block)) ** 0.5
        if len(block) < _LONG_TOKENS:
            is_there = bool(labels[at]) if len(block) >= _SEQUENCE else tuple(block) in known[len(block)]
            labels[at] = " ".join(block) in lines or (is_there and _is_between(at, long, labels))
    total = weights.sum()
    return labels, weights / max(total, 1e-9) * min(total, 40 + 0.2 * total)


def _is_between(at: int, long: list[int], labels: np.ndarray) -> bool:
    """Whether the nearest long blocks on both sides are matter."""
    before = [labels[other] for other in long if other < at][-1:]
    after = [labels[other] for other in long if other > at][:1]
    return bool(before + after) and min(before + after) > 0


def labels_of_sentences(blocks: list[Block], wanted: list[str], unwanted: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The same for a page of which only some sentences are known."""
    labels, weights = np.full(len(blocks), np.nan), np.zeros(len(blocks))
    for at, block in enumerate(blocks):
        is_wanted = any(" ".join(sentence.split()) in block.text for sentence in wanted)
        is_unwanted = any(" ".join(sentence.split()) in block.text for sentence in unwanted)
        if is_wanted != is_unwanted:
            labels[at], weights[at] = is_wanted, _WEIGHT_OF_SENTENCE
    count = max(1, int((weights > 0).sum()))
    return labels, weights * min(1.0, _MOST_WEIGHT_OF_SENTENCES / count)
