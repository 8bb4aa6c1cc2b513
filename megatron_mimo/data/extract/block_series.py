"""Series: boxes of one shape that hold sentences, such as the posts of a thread, comments, or teasers of articles.

On a page of a thread nearly all sentences stand in one series; below an article a series is comments or teasers. A
block belongs to the series around it that holds most of the page's sentences.
"""

import math

from megatron_mimo.data.extract.blocks import Box
from megatron_mimo.data.extract.words import word_list

SERIES = word_list("series_count series_share series_mean page_series_count page_series_share")
_LEAST_BOXES = 3
_NONE = (0.0, 0.0, 0.0)


def series_of_boxes(
    boxes: list[Box], shapes: list[str], sentences: list[int], num_blocks: list[int]
) -> list[tuple[float, ...]]:
    """For each box, the values of `SERIES`; `sentences` holds the characters of sentences in it.

    Boxes of a single block are no members: paragraphs are no series.
    """
    whole = max(sentences[0], 1)
    groups: dict[str, list[int]] = {}
    for shape, characters, size in zip(shapes, sentences, num_blocks, strict=True):
        if characters and size > 1:
            group = groups.setdefault(shape, [0, 0])
            group[0] += 1
            group[1] += characters
    known = {
        shape: (math.log1p(count), min(total / whole, 1.0), math.log1p(total / count))
        for shape, (count, total) in groups.items()
        if count >= _LEAST_BOXES
    }
    largest = max(known.values(), key=lambda values: values[1], default=_NONE)
    result: list[tuple[float, float, float]] = []
    for box, shape, size in zip(boxes, shapes, num_blocks, strict=True):
        above = result[box.parent] if box.parent >= 0 else _NONE
        own = known.get(shape, _NONE) if size > 1 else _NONE
        result.append(own if own[1] > above[1] else above)
    return [(*values, *largest[:2]) for values in result]
