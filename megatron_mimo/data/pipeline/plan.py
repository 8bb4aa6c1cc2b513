"""From the configuration to stages that can be run: readers, shards of earlier stages, steps."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline import registry
from megatron_mimo.data.pipeline.chain import Clock, chained
from megatron_mimo.data.pipeline.config import PipelineConfig, PipelineStageConfig
from megatron_mimo.data.pipeline.files import InputFile, share_out
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.markers import Breadcrumb
from megatron_mimo.data.pipeline.shards import read_documents, shard_path, write_documents
from megatron_mimo.data.pipeline.step import Stage, Step, Task
from megatron_mimo.platform.files import write_text

STAGE_FOLDER = "stage:"


def stages_of(config: PipelineConfig) -> list[Stage]:
    """Every stage in the order they run; raises UserError for an option that is unknown or impossible."""
    layout = Layout.of(config.output_dir)
    num_tasks: dict[str, int] = {}
    stages: list[Stage] = []
    for index, stage in enumerate(config.stages):
        key = f"stages.{index}"
        inputs = inputs_of(config, index)
        if stage.dedup is not None:
            stages += _dedup_stages(stage, layout, inputs, num_tasks, f"{key}.dedup")
            continue
        if stage.reader is not None:
            registry.build_reader(stage.reader, f"{key}.reader")
            number = stage.num_tasks or config.num_tasks
        else:
            number = stage.num_tasks or sum(num_tasks[name] for name in inputs)
        num_tasks[stage.name] = number
        steps_of(stage, layout, key)
        run = partial(_run_documents, stage, layout, inputs, dict(num_tasks), key)
        stages.append(Stage(stage.name, number, run, output=layout.stage(stage.name), dropped=stage.dropped))
    return stages


def inputs_of(config: PipelineConfig, index: int) -> list[str]:
    """The stages whose shards stage `index` reads; none where it has a reader."""
    stage = config.stages[index]
    if stage.reader is not None:
        return []
    if stage.inputs:
        return stage.inputs
    before = [other.name for other in config.stages[:index] if other.dedup is None]
    return before[-1:]


def steps_of(stage: PipelineStageConfig, layout: Layout, key: str) -> list[Step]:
    """Fresh steps of a stage: they may hold state, so every task has its own."""
    return [
        registry.build_step(_with_folders(options, layout), f"{key}.steps.{number}")
        for number, options in enumerate(stage.steps)
    ]


def _with_folders(value: Any, layout: Layout) -> Any:
    """The options with `stage:NAME` replaced by the folder of that stage."""
    if isinstance(value, dict):
        return {name: _with_folders(item, layout) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_folders(item, layout) for item in value]
    if isinstance(value, str) and value.startswith(STAGE_FOLDER):
        return str(layout.stage(value.removeprefix(STAGE_FOLDER)))
    return value


def _run_documents(
    stage: PipelineStageConfig, layout: Layout, inputs: list[str], num_tasks: dict[str, int], key: str, task: Task
) -> None:
    """One task: its share of the input through fresh steps into its shard."""
    if stage.reader is not None:
        reader = registry.build_reader(stage.reader, f"{key}.reader")
        documents = reader.read(share_out(read_inputs(layout, stage.name), task.num_tasks)[task.index], task)
    else:
        documents = _from_shards(_shards_of_task(layout, inputs, num_tasks, task), task)
    skip_path = layout.skip(stage.name, task.index)
    skip = msgspec.json.decode(skip_path.read_bytes(), type=list[str]) if skip_path.exists() else []
    breadcrumb, clock = Breadcrumb(layout.breadcrumb(stage.name, task.index)), Clock()
    steps = steps_of(stage, layout, key)
    finished = chained(steps, documents, task, clock, skip, breadcrumb.note)
    number = write_documents(shard_path(layout.stage(stage.name), task.index), _sampled(finished, stage.name, task))
    task.count("write/documents", number)
    clock.switch("")
    task.step_cpu_seconds = {name: seconds for name, seconds in clock.cpu_seconds.items() if name}


def _sampled(documents: Iterable[Document], name: str, task: Task) -> Iterator[Document]:
    for document in documents:
        task.sample(f"{name}/kept", document)
        yield document


def _shards_of_task(layout: Layout, inputs: list[str], num_tasks: dict[str, int], task: Task) -> list[Path]:
    """A contiguous share of the input's shards; one each where there are as many tasks as shards."""
    shards = [shard_path(layout.stage(name), index) for name in inputs for index in range(num_tasks[name])]
    first = task.index * len(shards) // task.num_tasks
    last = (task.index + 1) * len(shards) // task.num_tasks
    return shards[first:last]


def _from_shards(shards: list[Path], task: Task) -> Iterator[Document]:
    task.count("read/files", len(shards))
    for document in chain.from_iterable(read_documents(path) for path in shards):
        task.count("read/documents")
        yield document


def listed_inputs(config: PipelineConfig) -> dict[str, list[InputFile]]:
    """Stage -> the files of its reader, listed now."""
    return {
        stage.name: registry.build_reader(stage.reader, f"stages.{index}.reader").list()
        for index, stage in enumerate(config.stages)
        if stage.reader is not None
    }


def write_inputs(layout: Layout, files: dict[str, list[InputFile]]) -> None:
    """Keep the lists: the tasks read these and look at no folder themselves."""
    for stage, listed in files.items():
        path = layout.inputs(stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(msgspec.json.encode(file).decode() + "\n" for file in listed))


def read_inputs(layout: Layout, stage: str) -> list[InputFile]:
    """The files of a reader as they were listed when the pipeline began."""
    try:
        lines = layout.inputs(stage).read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{layout.inputs(stage)} is missing: start the pipeline, not a task of it") from error
    return [msgspec.json.decode(line, type=InputFile) for line in lines]


def _dedup_stages(
    stage: PipelineStageConfig, layout: Layout, inputs: list[str], num_tasks: dict[str, int], key: str
) -> list[Stage]:
    """The stages of the global deduplication, over the shards of one earlier stage."""
    if len(inputs) != 1:
        raise UserError(f"config error: {key}: give exactly one stage as inputs, not {inputs}")
    options = registry.build_options(registry.DEDUP_CONFIG, _with_folders(stage.dedup, layout), key)
    make = registry.load_object(registry.DEDUP_STAGES, key)
    folders = layout.stage(inputs[0]), layout.stage(stage.name)
    stages: list[Stage] = make(options, *folders, num_shards=num_tasks[inputs[0]])
    return [
        Stage(f"{stage.name}/{part.name}", part.num_tasks, part.run, part.output, dropped="none") for part in stages
    ]
