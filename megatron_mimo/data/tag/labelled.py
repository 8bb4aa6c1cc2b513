"""Pages with known tags: JSONL of `{"id", "text", "domain", "reasoning_depth", ...}`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.data.tag.schema import Tags, TagsError, tags_from_json, tags_to_json
from megatron_mimo.platform.files import write_text


@dataclass(frozen=True)
class LabelledPage:
    """One page of a training or test set."""

    id: str
    text: str
    tags: Tags
    kind: str = ""
    """What the page was written or made as: `proof`, `api_listing`, `recipe`, ...; only for reports."""


def read_labelled(*paths: Path) -> list[LabelledPage]:
    """The pages of the files, in order; raises UserError naming file and line for what is no labelled page."""
    pages = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = json.loads(line)
                pages.append(LabelledPage(record["id"], record["text"], tags_from_json(record), record.get("kind", "")))
            except (ValueError, KeyError, TypeError, TagsError) as error:
                raise UserError(f"{path}, line {number} is not a labelled page: {error}") from error
    return pages


def write_labelled(path: Path, pages: Iterable[LabelledPage]) -> None:
    """Write what `read_labelled` reads."""
    records = ({"id": page.id, "kind": page.kind, **tags_to_json(page.tags), "text": page.text} for page in pages)
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
