"""Tags of a page: its domain, three scores and three kinds (report section 2.1, quality taggers).

Scores run from 0 (none) to 5; taggers give fractions, annotators whole numbers.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

DOMAINS = {
    "mathematics": "definitions, theorems, proofs, exercises and calculations about mathematics",
    "code": "programs, programming tutorials, API references and questions about software",
    "science": "physics, chemistry, biology, astronomy, earth science",
    "engineering": "electrical, mechanical, civil, chemical and computer engineering; how technical things are built",
    "medicine": "health, diseases, drugs, anatomy, clinical practice",
    "law": "statutes, contracts, licences, court decisions and comments on them",
    "finance": "markets, accounting, banking, taxes, economics",
    "humanities": "history, philosophy, languages, literature and the arts as subjects of study",
    "news": "reports of recent events",
    "fiction": "stories, novels, poems, plays",
    "advertisement": "pages that sell: product pages, promotions, search-engine spam",
    "job_posting": "vacancies and what an employer offers and demands",
    "general": "everything else: recipes, travel, hobbies, personal pages, discussions, logs and tables",
}
"""Every domain with its description in the annotation prompt."""

SCORES = {
    "knowledge_density": "how many facts, definitions or results a reader takes away for each sentence read",
    "reasoning_depth": "how many steps of argument build on each other: 0 a list or bare facts, 1 one-step answers, "
    "2 short explanations, 3 several linked steps, 4 a worked derivation or proof, 5 long, many-layered reasoning",
    "educational_value": "how well somebody who wants to learn the subject is served",
}
MAX_SCORE = 5

KINDS = {
    "advertisement": "the page mainly wants to sell something",
    "news": "the page reports a recent event",
    "job_posting": "the page offers a job",
}
"""Kinds that are over-represented on the web; a page may be of several, in any domain."""


class TagsError(ValueError):
    """An answer or a record that is not a set of tags; the message is short and constant: it is counted by it."""


@dataclass(kw_only=True)
class Tags:
    """What a tagger or an annotator says about one page."""

    domain: str
    knowledge_density: float
    reasoning_depth: float
    educational_value: float
    kinds: list[str] = field(default_factory=list)
    language: str = ""
    """ISO 639-1 code; empty when nobody looked."""

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise TagsError("unknown domain")
        if not set(self.kinds) <= KINDS.keys():
            raise TagsError("unknown kind")
        for name in SCORES:
            score = getattr(self, name)
            if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= MAX_SCORE:
                raise TagsError(f"{name} is not a score from 0 to {MAX_SCORE}")

    @property
    def scores(self) -> list[float]:
        """The scores in the order of SCORES."""
        return [getattr(self, name) for name in SCORES]


def tags_to_json(tags: Tags) -> dict[str, Any]:
    """What stands in `Document.metadata["tags"]`; scores with two decimals."""
    return dataclasses.asdict(tags) | {name: round(getattr(tags, name), 2) for name in SCORES}


def tags_from_json(record: Any) -> Tags:
    """The reverse; keys that are not tags are ignored. Raises TagsError for what is missing or impossible."""
    if not isinstance(record, dict):
        raise TagsError("not an object")
    names = [field.name for field in dataclasses.fields(Tags)]
    missing = next((name for name in names[:4] if name not in record), None)
    if missing:
        raise TagsError(f"{missing} is missing")
    values = {name: record[name] for name in names if name in record}
    if not isinstance(values.get("kinds", []), list) or not all(
        isinstance(kind, str) for kind in values.get("kinds", [])
    ):
        raise TagsError("kinds is not a list of texts")
    if not isinstance(values["domain"], str) or not isinstance(values.get("language", ""), str):
        raise TagsError("domain or language is not a text")
    return Tags(**values)
