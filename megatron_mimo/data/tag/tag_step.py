"""The pipeline step that tags documents with a trained tagger."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from megatron_mimo.config import ConfigError
from megatron_mimo.config.errors import require_at_least
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task
from megatron_mimo.data.tag.language import detect_language
from megatron_mimo.data.tag.schema import DOMAINS, tags_to_json
from megatron_mimo.data.tag.tagger import load_tagger


@dataclass(kw_only=True)
class TagStep:
    """Writes `metadata["tags"]` (schema.py); drops only what its options ask for."""

    name = "tag"
    model: str
    """Folder of a tagger, see megatron-mimo train-tagger."""
    batch_size: int = 64
    drop_domains: list[str] = field(default_factory=list)
    min_educational_value: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(1, "tag", batch_size=self.batch_size)
        for domain in self.drop_domains:
            if domain not in DOMAINS:
                raise ConfigError("tag.drop_domains", domain, f"known domains: {', '.join(DOMAINS)}")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Tag in batches of `batch_size`; the order stays."""
        tagger = load_tagger(self.model)
        documents = iter(documents)
        while batch := list(itertools.islice(documents, self.batch_size)):
            for document, tags in zip(batch, tagger.tag([document.text for document in batch]), strict=True):
                known = document.metadata.get("language")
                tags.language = detect_language(document.text)[0] if known is None else known
                document.metadata["tags"] = tags_to_json(tags)
                task.count(f"tag/domain/{tags.domain}")
                if tags.domain in self.drop_domains:
                    task.drop(document, self.name, f"domain {tags.domain}")
                elif tags.educational_value < self.min_educational_value:
                    task.drop(document, self.name, "low educational value")
                else:
                    yield document
