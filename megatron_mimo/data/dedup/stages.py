"""Global deduplication as stages of a pipeline.

    shards --urls--> runs --url-groups--> winners
    shards --texts--> runs (text hashes, band keys) --groups--> winners, links --rounds--> clusters --best--> winners
    winners --decisions--> one small file a shard

URLs come first, and by themselves: two texts of one URL need not be alike, so a URL must not tie their clusters
together. The best document of a group is the one of the highest quality, then of the smallest number; what is kept
depends neither on the order in which tasks run nor on their number.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from megatron_mimo.config.errors import UserError
from megatron_mimo.data.dedup.clusters import group_members, large_star, small_star, write_members
from megatron_mimo.data.dedup.config import DedupConfig
from megatron_mimo.data.dedup.decisions import write_decisions
from megatron_mimo.data.dedup.groups import group_texts, group_urls, save_index
from megatron_mimo.data.dedup.keys import key_texts, key_urls
from megatron_mimo.data.dedup.work import Work
from megatron_mimo.data.pipeline.shards import shard_paths
from megatron_mimo.data.pipeline.step import Stage, Task
from megatron_mimo.platform.files import write_json


def dedup_stages(
    config: DedupConfig, input_folder: str | Path, work_folder: str | Path, num_shards: int | None = None
) -> list[Stage]:
    """Stages whose last product is `work_folder/decisions`, the input of the step `dedup`.

    `num_shards` is needed when the shards of `input_folder` are not there yet. Raises UserError when there are none,
    and when the index does not fit.
    """
    if num_shards is None:
        num_shards = len(shard_paths(input_folder))
    if num_shards < 1:
        raise UserError(f"no shards NNNNN.jsonl.zst in {input_folder}")
    work = Work(config, Path(input_folder), Path(work_folder), num_shards)
    work.check_index()

    def stage(name: str, num_tasks: int, run: Callable[[Work, Task], None]) -> Stage:
        return Stage(f"dedup-{name}", num_tasks, partial(run, work))

    shards, parts = num_shards, config.partitions
    urls = [stage("urls", shards, key_urls), stage("url-groups", parts, group_urls)]
    rounds = [
        stage(f"{name}-{number:02d}", parts, partial(_in_round, run, number))
        for number in range(1, config.cluster_rounds + 1)
        for name, run in (("large-star", large_star), ("small-star", small_star))
    ]
    return [
        *(urls if config.urls else []),
        stage("texts", shards, key_texts),
        stage("groups", parts, group_texts),
        *rounds,
        stage("members", parts, write_members),
        stage("best", parts, group_members),
        stage("decisions", shards, write_decisions),
        *([stage("index", parts, _save_index)] if config.save_index else []),
    ]


def _in_round(run: Callable[[Work, Task, int], None], number: int, work: Work, task: Task) -> None:
    run(work, task, number)


def _save_index(work: Work, task: Task) -> None:
    save_index(work, task)
    if task.index == 0:
        content = {"scheme": work.config.index_scheme(), "next_shard": work.first_shard + work.num_shards}
        write_json(work.folder / "index" / "index.json", content)
