"""Our stages under datatrove's executor, then our step between a datatrove reader and a list."""

import dataclasses
import datetime
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from data_steps import Slow
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from megatron_mimo.data.datatrove_steps import DatatroveStage, DatatroveStep, documents_from
from megatron_mimo.data.pipeline.step import Task


class GzipLines(PipelineStep):
    """A reader as datatrove's own are, without the packages that those need."""

    type, name = "reader", "lines"

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: object, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        for path in sorted(Path(self.folder).iterdir())[rank::world_size]:
            for number, line in enumerate(gzip.decompress(path.read_bytes()).decode().splitlines()):
                metadata = {"url": "http://a", "date": datetime.date(2024, 1, 1), "file_path": str(path)}
                yield Document(text=json.loads(line)["text"], id=f"{path.name}/{number}", metadata=metadata)


if __name__ == "__main__":
    config, raw, folder = sys.argv[1:]
    for stage, tasks in (("pages", 6), ("mixed", 2)):
        executor = LocalPipelineExecutor(
            [DatatroveStage(config, stage)], tasks=tasks, workers=2, logging_dir=f"{folder}/logs/{stage}"
        )
        executor.run()
    blocks = DatatroveStep({"step": "data_steps:Slow", "seconds": 0})
    ours = [document for rank in range(2) for document in blocks.run(GzipLines(raw).run(None, rank, 2), rank, 2)]
    theirs = list(Slow(seconds=0).run(documents_from(GzipLines(raw), Task()), Task()))
    assert [one.url for one in theirs] == ["http://a"] * len(theirs)
    assert {one.metadata["date"] for one in theirs} == {"2024-01-01"}
    assert sorted((one.id, one.text) for one in ours) == sorted((one.id, one.text) for one in theirs)
    print(json.dumps([dataclasses.asdict(document) for document in ours]))
