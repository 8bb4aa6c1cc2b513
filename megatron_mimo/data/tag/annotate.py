"""Labels from a large model: pages through an endpoint into a JSONL that taggers are trained on."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_mimo.clients.endpoint import Endpoint, EndpointConfig, RequestFailed, Sampling
from megatron_mimo.clients.journal import Journal, read_records
from megatron_mimo.config.errors import require_at_least
from megatron_mimo.data.document import Document
from megatron_mimo.data.tag.labelled import LabelledPage
from megatron_mimo.data.tag.prompts import annotation_messages, parse_annotation
from megatron_mimo.data.tag.schema import TagsError, tags_from_json, tags_to_json
from megatron_mimo.platform.concurrency import for_each


@dataclass(kw_only=True)
class AnnotationConfig:
    """What is annotated, by whom."""

    documents: str
    """Folder of shards."""
    output: str
    """JSONL of annotations; an existing one is continued."""
    endpoint: EndpointConfig
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0, top_p=1.0, max_new_tokens=2048))
    max_documents: int | None = None

    def __post_init__(self) -> None:
        require_at_least(1, "annotation", max_documents=self.max_documents)


async def annotate(documents: Iterable[Document], config: AnnotationConfig) -> Counter[str]:
    """Append one record per document to `config.output`: its text and tags, or why there are none.

    Documents that the file holds already are skipped, also those whose answer gave no tags. Those that the endpoint
    left without an answer are not in the file: the next run asks again. The counts are of this run: `annotated`,
    `skipped`, `failed/<reason>`, tokens and retries.
    """
    counts: Counter[str] = Counter()
    with Journal(Path(config.output)) as journal:
        async with Endpoint(config.endpoint) as endpoint:

            async def annotate_one(document: Document) -> None:
                await _annotate_one(document, endpoint, config, journal, counts)

            todo = _not_annotated(documents, journal, counts)
            await for_each(todo, annotate_one, config.endpoint.max_concurrent_requests)
            usage = endpoint.usage
            counts |= Counter(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
            counts["retries"] = usage.retries
    return counts


def _not_annotated(documents: Iterable[Document], journal: Journal, counts: Counter[str]) -> Iterator[Document]:
    for document in documents:
        if document.id in journal.ids:
            counts["skipped"] += 1
        else:
            yield document


async def _annotate_one(
    document: Document, endpoint: Endpoint, config: AnnotationConfig, journal: Journal, counts: Counter[str]
) -> None:
    record: dict[str, Any] = {"id": document.id, "url": document.url, "text": document.text}
    record["model"] = config.endpoint.model
    try:
        completion = await endpoint.chat(annotation_messages(document.text), config.sampling)
        record["tags"] = tags_to_json(parse_annotation(completion.text))
        counts["annotated"] += 1
    except RequestFailed as error:
        if not error.final:
            counts[f"failed/{error.reason}"] += 1
            return
        record["error"] = error.reason
    except TagsError as error:
        record |= {"error": str(error), "answer": completion.text[-2000:]}
    if "error" in record:
        counts[f"failed/{record['error']}"] += 1
    journal.append(record)


def annotated_pages(path: Path) -> Iterator[LabelledPage]:
    """The pages with tags of an annotation file."""
    for record in read_records(path):
        if "tags" in record:
            yield LabelledPage(record["id"], record["text"], tags_from_json(record["tags"]))
