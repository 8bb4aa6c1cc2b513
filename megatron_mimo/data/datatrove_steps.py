"""The pipeline with datatrove (optional): our steps among its blocks, its readers before our steps, its executors.

LocalPipelineExecutor([JsonlReader(...), DatatroveStep({"step": "language", "keep": ["en"]}), JsonlWriter(...)])
LocalPipelineExecutor([DatatroveStage("data.yaml", "pages")], tasks=64)     # a whole stage, with our shards
"""

from collections.abc import Iterable, Iterator
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.job import load_job
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.guard import claim_folder, read_layout
from megatron_mimo.data.pipeline.markers import read_marker, run_task
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.pipeline.registry import build_step
from megatron_mimo.data.pipeline.run import check_ready
from megatron_mimo.data.pipeline.step import Task

try:
    from datatrove.data import Document as DatatroveDocument
    from datatrove.pipeline.base import PipelineStep
except ImportError as error:
    raise ImportError("datatrove is not installed: pip install datatrove") from error

OWN_FIELDS = ("url", "source", "split")
"""Fields of our documents that datatrove keeps in the metadata."""


def to_datatrove(document: Document) -> DatatroveDocument:
    """The same document there; our own fields become metadata."""
    own = {name: getattr(document, name) for name in OWN_FIELDS if getattr(document, name)}
    return DatatroveDocument(text=document.text, id=document.id, metadata=document.metadata | own)


def from_datatrove(document: Any) -> Document:
    """The same document here; values that JSON does not know become text. Media are left behind."""
    metadata = {name: _plain(value) for name, value in document.metadata.items()}
    own = {name: str(metadata.pop(name)) for name in OWN_FIELDS if name in metadata}
    split = "valid" if own.pop("split", "train") == "valid" else "train"
    return Document(document.id, document.text, split=split, metadata=metadata, **own)


def documents_from(reader: Any, task: Task) -> Iterator[Document]:
    """What a datatrove reader gives to this task."""
    for document in reader.run(None, task.index, task.num_tasks):
        task.count("read/documents")
        yield from_datatrove(document)


class DatatroveStep(PipelineStep):
    """One of our steps, described as in the YAML, as a datatrove block; counts and drops go to its statistics."""

    type = "megatron-mimo"

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options, self.name = options, str(options.get("step"))
        build_step(options, self.name)  # errors in the options: now, not in a worker

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Yield what the step lets pass."""
        task = Task(rank, world_size)
        step = build_step(self.options, self.name)
        for document in step.run(_converted(data), task):
            yield to_datatrove(document)
        for name, number in task.counts.items():
            self.stat_update(name, value=number)


class DatatroveStage(PipelineStep):
    """A whole stage of a pipeline's YAML as the only block of a datatrove executor with as many tasks.

    Stages in a chain of executors (`depends=`) wait for each other there; shards and markers are the pipeline's own.
    """

    type = "megatron-mimo stage"

    def __init__(self, config_path: str, stage: str, overrides: list[str] | None = None) -> None:
        super().__init__()
        self.config_path, self.name, self.overrides = config_path, stage, overrides or []
        claim_folder(self._pipeline())  # once, by whoever builds the executor

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Run task `rank`; yields nothing: the documents are in the shard."""
        pipeline = self._pipeline()
        layout = read_layout(pipeline)
        stage = check_ready(layout, stages_of(pipeline), str(self.name))
        if world_size != stage.num_tasks:
            raise UserError(f"stage {self.name} has {stage.num_tasks} tasks: give the executor tasks={stage.num_tasks}")
        if read_marker(layout, stage.name, rank) is None:
            for name, number in run_task(stage, rank, layout).counts.items():
                self.stat_update(name, value=number)
        return iter(())

    def _pipeline(self) -> PipelineConfig:
        pipeline = load_job(self.config_path, self.overrides).pipeline
        if pipeline is None:
            raise UserError(f"{self.config_path} has no pipeline")
        return pipeline


def _converted(data: Iterable[Any] | None) -> Iterator[Document]:
    return (from_datatrove(document) for document in data or ())


def _plain(value: Any) -> Any:
    """A JSON value."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
