"""Where everything lies under a pipeline's `output_dir`."""

from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.data.pipeline.files import local_folder
from megatron_mimo.data.pipeline.shards import shard_path


@dataclass(frozen=True)
class Layout:
    """Paths below one folder; `stage` is the name of a stage as it runs (`near/1-bands` for a part of one)."""

    root: Path

    @classmethod
    def of(cls, output_dir: str | Path) -> "Layout":
        """The layout of a pipeline's folder; raises UserError for one in an object store."""
        return cls(local_folder(output_dir))

    def stage(self, name: str) -> Path:
        """Shards of a stage of documents, working files of any other."""
        return self.root / name

    def marker(self, stage: str, index: int) -> Path:
        """Says that the task is done, and what happened in it."""
        return self.root / "done" / stage / f"{index:05d}.json"

    def dropped(self, stage: str, index: int) -> Path:
        return shard_path(self.root / "dropped" / stage, index)

    def failure(self, stage: str, index: int) -> Path:
        """The traceback of a task that failed."""
        return self.root / "failed" / stage / f"{index:05d}.txt"

    def breadcrumb(self, stage: str, index: int) -> Path:
        """The id of the document that the task is at: read when its worker died."""
        return self.root / "running" / stage / f"{index:05d}"

    def skip(self, stage: str, index: int) -> Path:
        """Ids of documents on which workers crashed twice."""
        return self.root / "failed" / stage / f"{index:05d}.skip.json"

    def inputs(self, stage: str) -> Path:
        """Files of a reader, as they were listed when the pipeline began."""
        return self.root / "inputs" / f"{stage}.jsonl"

    @property
    def settings(self) -> Path:
        """What the folder was made with."""
        return self.root / "settings.json"

    @property
    def config(self) -> Path:
        """The resolved configuration: the job can be run from it alone."""
        return self.root / "job.yaml"

    @property
    def report(self) -> Path:
        return self.root / "report.html"
