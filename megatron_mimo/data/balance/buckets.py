"""From a tagger's scores to the mixture's sources: one for each domain and quality, with the tokens it holds.

megatron-mimo mixture measure FOLDER [BYTES_PER_TOKEN]

prints the `sources` of a `BalanceSpec` for the tagged shards in FOLDER. The step `assign_source` gives every document
the name of its bucket, by which `SourceConfig.only` picks it when it is tokenized.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from megatron_mimo.config import UserError
from megatron_mimo.data.balance.spec import SourceTotals
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.shards import read_documents, shard_paths
from megatron_mimo.data.pipeline.step import Task

SCORES = ("knowledge_density", "reasoning_depth", "educational_value")
QUALITIES = ((3.0, "high"), (1.5, "medium"), (0.0, "low"))
"""By the mean of the scores, each 0 to 5."""
BYTES_PER_TOKEN = 4.0
"""Of English text with a vocabulary of 150 000 tokens; measure it on a sample of your own data."""


def bucket_labels(tags: dict[str, Any]) -> dict[str, str]:
    """Labels of a document: `domain`, `quality`, and `content`: its first over-represented kind, or page."""
    mean = sum(tags[score] for score in SCORES) / len(SCORES)
    quality = next(name for least, name in QUALITIES if mean >= least)
    return {"domain": tags["domain"], "content": next(iter(tags["kinds"]), "page"), "quality": quality}


def bucket_name(labels: dict[str, str]) -> str:
    """`mathematics_high`, `general_advertisement_low`: the source that documents with these labels belong to."""
    return "_".join(value for value in labels.values() if value != "page")


@dataclass(kw_only=True)
class AssignSource:
    """Names the bucket of a tagged document as its source; a document without tags keeps the one it has."""

    name: ClassVar[str] = "assign_source"

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Yield every document; counts documents by source."""
        for document in documents:
            if "tags" in document.metadata:
                document.source = bucket_name(bucket_labels(document.metadata["tags"]))
            task.count(f"{self.name}/{document.source or 'none'}")
            yield document


def bucket_totals(documents: Iterable[Document], bytes_per_token: float = BYTES_PER_TOKEN) -> list[SourceTotals]:
    """Estimated tokens of each bucket among tagged training documents."""
    sizes: Counter[str] = Counter()
    labels: dict[str, dict[str, str]] = {}
    for document in documents:
        if document.split == "train" and "tags" in document.metadata:
            found = bucket_labels(document.metadata["tags"])
            labels[bucket_name(found)] = found
            sizes[bucket_name(found)] += len(document.text.encode())
    return [
        SourceTotals(name=name, tokens=float(round(size / bytes_per_token)) or 1.0, labels=labels[name])
        for name, size in sorted(sizes.items())
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print the sources of the shards in a folder; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(__doc__)
            return 0 if arguments else 2
        shards = shard_paths(arguments[0])
        documents = (document for shard in shards for document in read_documents(shard))
        totals = bucket_totals(documents, float(arguments[1]) if len(arguments) > 1 else BYTES_PER_TOKEN)
        if not totals:
            raise UserError(f"no tagged documents in {arguments[0]}: give the folder of a stage after the step tag")
    except (UserError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    sources = [{"name": total.name, "tokens": total.tokens, "labels": total.labels} for total in totals]
    print(yaml.safe_dump({"sources": sources}, sort_keys=False), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
