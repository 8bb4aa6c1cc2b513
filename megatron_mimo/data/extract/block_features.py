"""What the model sees of every block: numbers that depend on structure, not on the page's language.

`features(...)` gives one row a block. Text counts as Unicode categories and sentence ends; names count as weights of
their words (`NameWeights`); the rest is where a block stands: its boxes, its neighbours, blocks of the same shape, the
page's title, and the place where the page's sentences are.
"""

import math
import re
from collections import Counter
from functools import lru_cache

import numpy as np

from megatron_mimo.data.extract.block_names import NAME_COLUMNS, NameWeights, PageNames, name_rows
from megatron_mimo.data.extract.block_series import SERIES, series_of_boxes
from megatron_mimo.data.extract.blocks import RUN, Block, Blocks, ancestors
from megatron_mimo.data.extract.dom import CODE, FORMULA
from megatron_mimo.data.extract.head import Head
from megatron_mimo.data.extract.sentences import COMMA, ENDS_CLAUSE, ENDS_SENTENCE, SENTENCE_END, WITHOUT_STOPS
from megatron_mimo.data.extract.words import word_list

_DIGIT = re.compile(r"\d")
_UPPER = re.compile(r"[A-ZÀ-ÖØ-ÞА-ЯΑ-Ω]")
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_SIGN = re.compile(r"[^\w\s]")
_SEPARATOR = re.compile(r"[|·•»›/→]|\s[-–—]\s")
_ASCII_KINDS = (
    bytes(code for code in range(128) if not (chr(code).isalnum() or chr(code).isspace() or code == 0x5F)),
    b"0123456789",
    bytes(range(0x41, 0x5B)),
)
"""Signs, digits and capital letters of a text without others, counted by what is left when they are taken out."""
_LETTERS = re.compile(r"[^\W\d_]+")
_SAMPLE = 600
"""Characters of a block that shares are counted on."""
_SENTENCE_CHARACTERS = 25
_LIST_TAGS = frozenset(("ul", "ol", "menu", "dir"))
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_AROUND = tuple(word_list("a li td dd figure blockquote form header footer nav aside main article section"))

TEXT = word_list(
    """
    length words links num_links ends commas signs digits upper wide ends_sentence ends_clause separators items images
    code formulas atoms mean_item
    """
)
TAG = word_list(
    "is_heading heading_level is_p is_run is_list is_table is_li is_cell is_caption is_code is_formula is_quote"
)
AROUND = [f"in_{tag}" for tag in _AROUND]
PLACE = word_list(
    """
    place place_characters depth from_end after_title title_distance title_share is_title repeated same_shape
    shape_sentences shape_links in_body has_body in_description shape_span h_before h_level_before
    """
)
BOX = [f"box{level}_{name}" for level in range(3) for name in ("length", "links", "sentences", "blocks", "images")]
BOX += word_list("box1_share box2_share siblings")
CENTRE = word_list("top_up top_down in_top in_half in_most half_up most_up")
PAGE = word_list("page_length page_links page_blocks page_sentences page_articles page_code")
AROUND_FIELDS = word_list(
    "length links ends is_heading is_list digits name0_low names_low names_sum ends_clause in_body"
)
"""What is repeated of the neighbours: one and two blocks before and after, and means over windows."""
OWN = [*TEXT, *TAG, *AROUND, *PLACE, *BOX, *CENTRE, *SERIES, *PAGE, *NAME_COLUMNS]
COLUMNS = [*OWN, *(f"{name}_{shift:+d}" for shift in (-2, -1, 1, 2) for name in AROUND_FIELDS), *(
    f"{name}_{window}" for window in ("before5", "after5") for name in ("length", "links", "ends", "names_sum")
)]  # fmt: skip


_COUNTS = [
    OWN.index(name)
    for name in word_list(
        "length num_links items images code formulas atoms mean_item from_end repeated same_shape h_before siblings"
    )
] + [at for at, name in enumerate(OWN) if name in BOX and name.endswith(("_length", "_blocks", "_images"))]
"""Columns that are counts: the model sees log(1 + count)."""
_SIGNED_COUNT = OWN.index("title_distance")


def features(found: Blocks, head: Head, weights: NameWeights) -> np.ndarray:
    """[num_blocks, num_features]"""
    return assemble(static_rows(found, head), name_rows(PageNames.of(found), weights))


def static_rows(found: Blocks, head: Head) -> np.ndarray:
    """The columns that need no name weights."""
    return _Page(found, head).rows()


def assemble(static: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Both kinds of columns, and the neighbours' beside them."""
    own = np.concatenate([static, names], axis=1)
    return np.concatenate([own, *_neighbours(own)], axis=1)


def _neighbours(own: np.ndarray) -> list[np.ndarray]:
    columns = [OWN.index(name) for name in AROUND_FIELDS]
    part = own[:, columns]
    shifted = []
    for shift in (-2, -1, 1, 2):
        moved = np.full_like(part, -1.0)
        if shift < 0:
            moved[-shift:] = part[:shift]
        else:
            moved[:-shift] = part[shift:]
        shifted.append(moved)
    window = own[:, [OWN.index(name) for name in ("length", "links", "ends", "names_sum")]]
    total = np.concatenate([np.zeros((1, window.shape[1]), np.float32), np.cumsum(window, axis=0)])
    at = np.arange(len(own))
    before, after = np.maximum(at - 5, 0), np.minimum(at + 6, len(own))
    shifted.append((total[at] - total[before]) / 5)
    shifted.append((total[after] - total[at + 1]) / 5)
    return shifted


def _log(value: float) -> float:
    return math.log1p(max(value, 0.0))


@lru_cache(maxsize=4096)
def _text_row(text: str) -> tuple[float, ...]:
    """Counts that depend on the text alone: words, ends, commas, shares, how it ends."""
    sample = text[:_SAMPLE]
    size = max(len(sample), 1)
    ends = len(SENTENCE_END.findall(text))
    if text.isascii():
        data, wide = sample.encode(), 0.0
        signs, digits, upper = (size - len(data.translate(None, kind)) for kind in _ASCII_KINDS) if data else (0, 0, 0)
        commas = text.count(",") + text.count(";") + text.count(":")
    else:
        wide = len(_WIDE.findall(sample)) / size
        if not ends and len(text) > 60 and WITHOUT_STOPS.search(sample):
            ends = len(text) // 60
        signs, digits, upper = (len(kind.findall(sample)) for kind in (_SIGN, _DIGIT, _UPPER))
        commas = len(COMMA.findall(text))
    return (
        _log(text.count(" ") + 1 + wide * len(text) / 2), _log(ends), _log(commas),
        signs / size, digits / size, upper / size, wide,
        float(bool(ENDS_SENTENCE.search(text[-12:]))), float(bool(ENDS_CLAUSE.search(text[-12:]))),
        _log(len(_SEPARATOR.findall(sample))), float(ends),
    )  # fmt: skip


class _Page:
    """The sums over a page that rows are made from."""

    def __init__(self, found: Blocks, head: Head) -> None:
        self.blocks, self.boxes = found.blocks, found.boxes
        self.head = head
        self.texts = [_text_row(block.text) for block in self.blocks]
        self.lengths = [max(len(block.text), 1) for block in self.blocks]
        self.sentences = [
            length if row[-1] and length >= _SENTENCE_CHARACTERS and block.link_characters < 0.4 * length else 0
            for block, row, length in zip(self.blocks, self.texts, self.lengths, strict=True)
        ]
        self._sum_boxes()
        self._describe_boxes()
        self._find_centre()
        self._find_title()
        self._group_shapes()
        self.series = series_of_boxes(
            self.boxes, self.shape, [row[2] for row in self.sums], [row[3] for row in self.sums]
        )

    def _sum_boxes(self) -> None:
        sums = [[0, 0, 0, 0, 0] for _ in self.boxes]
        for block, length, sentence in zip(self.blocks, self.lengths, self.sentences, strict=True):
            row = sums[block.box]
            row[0] += length
            row[1] += block.link_characters
            row[2] += sentence
            row[3] += 1
            row[4] += block.num_images
        self.children = [0] * len(self.boxes)
        for number in range(len(self.boxes) - 1, 0, -1):
            parent = self.boxes[number].parent
            self.children[parent] += 1
            above, row = sums[parent], sums[number]
            for at in range(5):
                above[at] += row[at]
        self.sums = sums

    def _describe_boxes(self) -> None:
        """Tags and paths of every box, inherited from its parent."""
        self.around: list[tuple[float, ...]] = []
        self.shape: list[str] = []
        none = tuple(0.0 for _ in _AROUND)
        for box in self.boxes:
            element, parent = box.element, box.parent
            tag = element.tag
            around = self.around[parent] if parent >= 0 else none
            if tag in _AROUND:
                at = _AROUND.index(tag)
                around = (*around[:at], 1.0, *around[at + 1 :])
            self.around.append(around)
            shape = self.shape[parent][-60:] if parent >= 0 else ""
            self.shape.append(f"{shape}>{tag}.{_DIGIT.sub('', (element.get('class') or '')[:20])}")

    def _find_centre(self) -> None:
        scores = [0.0] * len(self.boxes)
        for block, row, sentence in zip(self.blocks, self.texts, self.sentences, strict=True):
            if sentence:
                score = 1 + math.expm1(row[2]) + min(len(block.text) / 100, 3)
                box = block.box if self.boxes[block.box].element is not block.element else self.boxes[block.box].parent
                box = max(box, 0)
                scores[box] += score
                above = self.boxes[box].parent
                if above >= 0:
                    scores[above] += score / 2
        best = max(
            range(len(scores)), key=lambda at: scores[at] * (1 - self.sums[at][1] / max(self.sums[at][0], 1)), default=0
        )
        whole = max(self.sums[0][2], 1)
        self.up_top = self._distances(best)
        self.top = best
        self.half = self._smallest(0.5 * whole)
        self.most = self._smallest(0.8 * whole)
        self.up_half, self.up_most = self._distances(self.half), self._distances(self.most)

    def _smallest(self, least: float) -> int:
        """The deepest box that holds at least so many characters of sentences."""
        return max(
            (at for at in range(len(self.boxes)) if self.sums[at][2] >= least),
            key=lambda at: self.boxes[at].depth,
            default=0,
        )

    def _distances(self, target: int) -> list[tuple[int, int]]:
        """For every box: how far up to the first box on the target's path, and from there down to the target."""
        path = set(ancestors(self.boxes, target))
        depth = self.boxes[target].depth
        result: list[tuple[int, int]] = []
        for number, box in enumerate(self.boxes):
            if number in path:
                result.append((0, depth - box.depth))
            else:
                up, down = result[box.parent]
                result.append((0, 0) if up == down == 0 else (up + 1, down))
        return result

    def _find_title(self) -> None:
        """Which heading the page's title repeats, and how much of each block's words the title holds."""
        title = " ".join(self.head.title.split()).lower()
        words = set(_LETTERS.findall(title))
        self.title_at = -1
        self.title_shares = []
        best = 0.0
        for at, block in enumerate(self.blocks):
            text = block.text[:300].lower()
            own = set(_LETTERS.findall(text)) if len(block.text) < 300 and words else set()
            common = len(own & words)
            share = common / max(len(own), 1)
            self.title_shares.append(share)
            tag = block.element.tag
            score = (share + common / max(len(words), 1)) * (1.5 if tag == "h1" else 1.2 if tag in _HEADINGS else 0.6)
            if common and score > best and len(text) > 2:
                best, self.title_at = score, at
        if best < 0.8:
            first = next((at for at, block in enumerate(self.blocks) if block.element.tag == "h1"), -1)
            self.title_at = first if first >= 0 else self.title_at

    def _group_shapes(self) -> None:
        """Blocks whose path of tags and classes is the same: lists of teasers, comments, rows."""
        self.shapes = [f"{self.shape[block.box]}>{block.element.tag}" for block in self.blocks]
        self.groups: dict[str, list[float]] = {}
        for at, shape in enumerate(self.shapes):
            group = self.groups.setdefault(shape, [0.0, 0.0, 0.0, 0.0, at, at])
            group[0] += 1
            group[1] += self.lengths[at]
            group[2] += self.sentences[at]
            group[3] += self.blocks[at].link_characters
            group[5] = at
        self.repeats = Counter(block.text[:80] for block in self.blocks if len(block.text) > 8)

    def rows(self) -> np.ndarray:
        whole = self.sums[0]
        count = len(self.blocks)
        articles = sum(box.element.tag == "article" for box in self.boxes)
        code = sum(block.num_code + block.num_formulas for block in self.blocks)
        page = (
            _log(whole[0]), whole[1] / max(whole[0], 1), _log(count), whole[2] / max(whole[0], 1), _log(articles),
            _log(code),
        )  # fmt: skip
        body = self.head.body.lower()
        description = self.head.description.lower()[:400]
        rows, seen, heading_at, heading_level = [], 0, -30, 0
        for at, block in enumerate(self.blocks):
            tag = block.element.tag
            rows.append((
                *self._text(at, block), *_tag(tag), *self.around[block.box],
                *self._place(at, block, seen, body, description, at - heading_at, heading_level),
                *self._box(block), *self._centre(block), *self.series[block.box], *page,
            ))  # fmt: skip
            seen += self.lengths[at]
            if tag in _HEADINGS:
                heading_at, heading_level = at, _HEADINGS[tag]
        result = np.array(rows, np.float32).reshape(count, len(OWN) - len(NAME_COLUMNS))
        result[:, _COUNTS] = np.log1p(np.maximum(result[:, _COUNTS], 0))
        distance = result[:, _SIGNED_COUNT]
        result[:, _SIGNED_COUNT] = np.copysign(np.log1p(np.abs(distance)), distance)
        return result

    def _text(self, at: int, block: Block) -> tuple[float, ...]:
        row, length = self.texts[at], self.lengths[at]
        return (
            length, row[0], block.link_characters / length, block.num_links, *row[1:10], block.num_items,
            block.num_images, block.num_code, block.num_formulas, block.atom_characters,
            length / max(block.num_items, 1),
        )  # fmt: skip

    def _place(
        self, at: int, block: Block, seen: int, body: str, description: str, distance: int, level: int
    ) -> tuple[float, ...]:
        count, whole = len(self.blocks), max(self.sums[0][0], 1)
        group = self.groups[self.shapes[at]]
        text = block.text[:60].lower()
        in_body = 0.0 if not body else (1.0 if len(text) > 12 and text in body else -1.0)
        return (
            at / count, seen / whole, self.boxes[block.box].depth, count - at,
            1.0 if at > self.title_at >= 0 else 0.0, at - self.title_at,
            self.title_shares[at], float(at == self.title_at), self.repeats.get(block.text[:80], 1) - 1,
            group[0], group[2] / max(group[1], 1), group[3] / max(group[1], 1), in_body, float(bool(body)),
            float(len(text) > 20 and text in description), (group[5] - group[4] + 1) / group[0], distance, level,
        )  # fmt: skip

    def _box(self, block: Block) -> tuple[float, ...]:
        values: list[float] = []
        number = block.box
        shares = []
        for _ in range(3):
            length, links, sentences, blocks, images = self.sums[number]
            values += [length, links / max(length, 1), sentences / max(length, 1), blocks, images]
            shares.append(sentences / max(self.sums[0][2], 1))
            number = max(self.boxes[number].parent, 0)
        return (*values, *shares[1:], self.children[max(self.boxes[block.box].parent, 0)])

    def _centre(self, block: Block) -> tuple[float, ...]:
        up, down = self.up_top[block.box]
        half, most = self.up_half[block.box], self.up_most[block.box]
        return (
            up,
            down,
            float(up == 0 and down == 0),
            float(half == (0, 0)),
            float(most == (0, 0)),
            half[0] + half[1],
            most[0] + most[1],
        )


@lru_cache(maxsize=64)
def _tag(tag: str) -> tuple[float, ...]:
    return (
        float(tag in _HEADINGS), float(_HEADINGS.get(tag, 0)), float(tag == "p"), float(tag == RUN),
        float(tag in _LIST_TAGS),
        float(tag == "table"), float(tag == "li"), float(tag in ("td", "th")), float(tag in ("figcaption", "caption")),
        float(tag == CODE), float(tag == FORMULA), float(tag == "blockquote"),
    )  # fmt: skip
