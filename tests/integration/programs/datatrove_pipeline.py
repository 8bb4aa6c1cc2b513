"""Our stages under datatrove's executor, then our step between datatrove's own reader and a list."""

import dataclasses
import json
import sys

from data_steps import Slow
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader

from megatron_mimo.data.pipeline.datatrove_steps import DatatroveStage, DatatroveStep, documents_from
from megatron_mimo.data.pipeline.step import Task

if __name__ == "__main__":
    config, raw, folder = sys.argv[1:]
    for stage, tasks in (("pages", 6), ("mixed", 2)):
        executor = LocalPipelineExecutor(
            [DatatroveStage(config, stage)], tasks=tasks, workers=2, logging_dir=f"{folder}/logs/{stage}"
        )
        executor.run()
    blocks = DatatroveStep({"step": "data_steps:Slow", "seconds": 0})
    ours = [document for rank in range(2) for document in blocks.run(JsonlReader(raw).run(None, rank, 2), rank, 2)]
    task = Task(0, 1)
    theirs = list(Slow(seconds=0).run(documents_from(JsonlReader(raw), task), task))
    assert sorted(document.text for document in ours) == sorted(document.text for document in theirs)
    print(json.dumps([dataclasses.asdict(document) for document in ours]))
