"""The step that applies the decisions of a deduplication."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from megatron_mimo.config.errors import ConfigError
from megatron_mimo.data.dedup.decisions import REASONS, with_decisions
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task


@dataclass(kw_only=True)
class DropDuplicates:
    """Drops the duplicates of shard `task.index`, which must be read in full and in order: first step of its stage.

    The documents that stay carry in `metadata["copies"]` how many documents they stand for, themselves included.
    """

    decisions: str
    """Folder `decisions` of the deduplication."""

    name = "dedup"

    def __post_init__(self) -> None:
        if not self.decisions:
            raise ConfigError("dedup.decisions", self.decisions, "give the folder `decisions` of a deduplication")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Yield the documents that stay; raises UserError when the shard is not the one that was deduplicated."""
        for document, _, copies, kind in with_decisions(self.decisions, documents, task):
            if kind:
                task.drop(document, self.name, REASONS[kind])
            else:
                document.metadata["copies"] = copies
                yield document
