"""What the names of the boxes around a block say: weights of words, learned from pages with known matter."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from megatron_mimo.data.extract.blocks import RUN, Blocks
from megatron_mimo.data.extract.names import names_of
from megatron_mimo.data.extract.words import word_list

_LEVELS = 4
NAME_COLUMNS = [f"name{level}_{side}" for level in range(_LEVELS) for side in ("low", "high")]
NAME_COLUMNS += word_list("names_low names_high names_sum names_low_distance")


@dataclass
class NameWeights:
    """How strongly each word of a name speaks for matter (above 0) or frame (below 0)."""

    weights: Mapping[str, float]
    known: dict[tuple[str, ...], tuple[float, float]] = field(default_factory=dict)
    """Answers given before: the same names come again on every page of a site."""

    def of(self, names: tuple[str, ...]) -> tuple[float, float]:
        """The lowest and the highest weight of some names; 0 where none is known."""
        answer = self.known.get(names)
        if answer is None:
            found = [self.weights[name] for name in names if name in self.weights]
            answer = (min(0.0, *found), max(0.0, *found)) if found else (0.0, 0.0)
            if len(self.known) > 50_000:
                self.known.clear()
            self.known[names] = answer
        return answer


@dataclass
class PageNames:
    """A page's boxes and blocks by their names alone."""

    parents: list[int]
    boxes: list[tuple[str, ...]]
    block_boxes: list[int]
    blocks: list[tuple[str, ...] | None]
    """None where the block is its box or has no element of its own."""

    @classmethod
    def of(cls, found: Blocks) -> "PageNames":
        own = [
            None
            if block.element.tag == RUN or found.boxes[block.box].element is block.element
            else names_of(block.element)
            for block in found.blocks
        ]
        boxes = [names_of(box.element) for box in found.boxes]
        return cls([box.parent for box in found.boxes], boxes, [block.box for block in found.blocks], own)


def name_rows(page: PageNames, weights: NameWeights) -> np.ndarray:
    """[num_blocks, len(NAME_COLUMNS)]"""
    levels: list[tuple[float, ...]] = []
    paths: list[tuple[float, float, float, int]] = []
    for parent, names in zip(page.parents, page.boxes, strict=True):
        low, high = weights.of(names)
        if parent < 0:
            levels.append((low, high) * _LEVELS)
            paths.append((low, high, low + high, 0))
            continue
        levels.append((low, high, *levels[parent][: 2 * _LEVELS - 2]))
        path_low, path_high, path_sum, distance = paths[parent]
        paths.append(
            (min(low, path_low), max(high, path_high), path_sum + low + high, 0 if low < path_low else distance + 1)
        )
    rows = []
    for box, names in zip(page.block_boxes, page.blocks, strict=True):
        low, high = weights.of(names) if names is not None else (0.0, 0.0)
        path_low, path_high, path_sum, distance = paths[box]
        if names is None:
            rows.append((*levels[box], path_low, path_high, path_sum, distance))
        else:
            rows.append(
                (
                    low,
                    high,
                    *levels[box][: 2 * _LEVELS - 2],
                    min(low, path_low),
                    max(high, path_high),
                    path_sum + low + high,
                    0 if low < path_low else distance + 1,
                )
            )
    return np.array(rows, np.float32).reshape(len(rows), len(NAME_COLUMNS))
