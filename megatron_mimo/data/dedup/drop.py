"""The step that applies the decisions of a deduplication."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.config.errors import ConfigError, UserError
from megatron_mimo.data.dedup.decisions import REASONS, decisions_path, read_decisions
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task

_NO_DECISION = (-1, 0, 0, 0)


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
        path = decisions_path(Path(self.decisions), task.index)
        num_documents, decisions = read_decisions(path)
        place, _, copies, kind = next(decisions, _NO_DECISION)
        number = 0
        for number, document in enumerate(documents, start=1):
            decided = number - 1 == place
            if decided and kind:
                task.drop(document, self.name, REASONS[kind])
            else:
                document.metadata["copies"] = copies if decided else 1
                yield document
            if decided:
                place, _, copies, kind = next(decisions, _NO_DECISION)
        if number != num_documents:
            raise UserError(
                f"{path} is about {num_documents} documents, task {task.index} read {number}: another shard"
            )
