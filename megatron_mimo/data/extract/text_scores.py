"""Scores of extracted text against a hand-made truth: the main text, or sentences that belong and do not.

With a `truth`, precision and recall count words (of Chinese, Japanese and Korean, characters), repeated ones as often
as they stand there; a set's scores are means over its pages. With sentences `with` and `without`, a sentence is found
when it stands in the text once white space and Markdown's signs are evened out; precision is right / (right + leaked)
over the set. A page is lost when its recall is below 0.2.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
import zstandard

from megatron_mimo.data.encoding import decode
from megatron_mimo.data.extract.block_labels import tokens

_LOST_RECALL = 0.2
_FENCE = re.compile(r"(?m)^```\w*$")
_SIGNS = re.compile(r"[*_`#>|$\\-]")


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """The pages of a folder, their HTML decoded as `html`.

    Of NAME.html with NAME.yaml (see tests/pages) the code blocks and the `prose` are what is wanted, `boilerplate` what
    is not; the set is named as the folder.
    """
    for path in sorted(folder.glob("*.yaml")):
        truth = yaml.safe_load(path.read_text(encoding="utf-8"))
        html = decode(path.with_suffix(".html").read_bytes())
        wanted = [*truth.get("prose", []), *(block["text"] for block in truth.get("code", []))]
        yield {
            "id": path.stem, "set": folder.name, "url": truth["url"], "html": html, "with": wanted,
            "without": truth.get("boilerplate", []),
        }  # fmt: skip
    for path in sorted([*folder.glob("*.jsonl.zst"), *folder.glob("*.jsonl")]):
        opened = zstandard.open(path, "rt", encoding="utf-8") if path.suffix == ".zst" else path.open(encoding="utf-8")
        with opened as lines:
            for line in lines:
                record = json.loads(line)
                if "html_base64" in record:
                    record["html"] = decode(base64.b64decode(record.pop("html_base64")))
                yield record


@dataclass
class Score:
    """One page: counts of sentences, or shares of words."""

    precision: float = 0.0
    recall: float = 0.0
    f: float = 0.0
    kept: int = 0
    leaked: int = 0
    wanted: int = 0
    unwanted: int = 0
    has_sentences: bool = False


@dataclass
class Summary:
    """A set of pages."""

    pages: int
    precision: float
    recall: float
    f: float
    lost: int
    leak: float | None
    """Share of the unwanted sentences that were found; None for sets with a whole truth."""

    def __str__(self) -> str:
        leak = "" if self.leak is None else f", leak {100 * self.leak:.1f} %"
        shares = f"P {self.precision:.3f} R {self.recall:.3f} F {self.f:.3f}"
        return f"{self.pages:4} pages: {shares}{leak}, {self.lost} lost"


def score_text(page: dict[str, Any], text: str) -> Score:
    """Score one page's text; `page` holds `truth`, or `with` and `without`."""
    if "truth" not in page:
        return _score_sentences(page["with"], page["without"], text)
    got, want = Counter(tokens(_FENCE.sub("", text))), Counter(tokens(page["truth"]))
    common = (got & want).total()
    precision, recall = common / max(1, got.total()), common / max(1, want.total())
    f = 2 * precision * recall / (precision + recall) if common else float(not got and not want)
    return Score(precision, recall, f)


def _score_sentences(wanted: list[str], unwanted: list[str], text: str) -> Score:
    whole, bare = _squeezed(text), _plain(text)
    kept = sum(_squeezed(sentence) in whole or _plain(sentence) in bare for sentence in wanted)
    leaked = sum(_squeezed(sentence) in whole for sentence in unwanted)
    recall = kept / max(1, len(wanted))
    return Score(0, recall, 0, kept, leaked, len(wanted), len(unwanted), True)


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    return _squeezed(_SIGNS.sub(" ", text))


def summary(scores: Sequence[Score]) -> Summary:
    """The scores of a set, which is not empty and of one kind."""
    lost = sum(score.recall < _LOST_RECALL for score in scores)
    if not scores[0].has_sentences:
        f = mean(score.f for score in scores)
        precision, recall = mean(score.precision for score in scores), mean(score.recall for score in scores)
        return Summary(len(scores), precision, recall, f, lost, None)
    kept, leaked = sum(score.kept for score in scores), sum(score.leaked for score in scores)
    wanted, unwanted = sum(score.wanted for score in scores), sum(score.unwanted for score in scores)
    precision, recall = kept / max(1, kept + leaked), kept / max(1, wanted)
    f = 2 * precision * recall / max(1e-9, precision + recall)
    return Summary(len(scores), precision, recall, f, lost, leaked / max(1, unwanted))
