"""What a resumed run finds changed: said in a few lines, refused where its place in the data is lost, or taken over.

A stage that is over is history: its length is that of the run, whatever the configuration says now. A stage whose
`tokens` were lowered to or below what it has consumed ends here.
"""

from collections.abc import Iterable
from typing import Any

from megatron_mimo.config import TrainingConfig, UserError
from megatron_mimo.config.stages import SkippedData
from megatron_mimo.training.checkpoint_record import CheckpointRecord, SourceRecord
from megatron_mimo.training.schedule import Schedule
from megatron_mimo.training.skips import stage_jumps
from megatron_mimo.training.state import Progress

LONGEST_LIST = 12
BRANCH = (
    "\nData that the run has read is left out by going on from a checkpoint before it: megatron-mimo checkpoints"
    " RUN --branch-from STEP NEW"
)
UNSAID = (
    "name",
    "output_dir",
    "num_threads",
    "max_steps",
    "stop_after_seconds",
    "collect_garbage_every_steps",
    "checkpoint",
    "resume",
    "guard",
    "logging",
    "evaluation",
)
"""Settings that do not change what is learned."""
UNSAID_ENDS = (
    *("data.path", "data.tokenizer", "data.loader", "data.num_workers", ".mixture", ".ended_after_tokens"),
    *("start.checkpoint", "start.allow"),
)
"""Of data and mixtures the content is compared; what became of a stage, and which start is not read, is said by
itself."""
LONGEST_VALUE = 60
"""Letters of a value that is said."""


def settle_stages(config: TrainingConfig, saved: CheckpointRecord) -> list[str]:
    """Give the stages of `config` the lengths that the saved run has made them; returns what is to be said.

    Raises UserError where the configuration lacks the stage that the run is in, or has another in its place.
    """
    progress = saved.progress
    names = [stage.name for stage in config.stages]
    begun = [stage.name for stage in saved.stages[: progress.stage + 1]]
    if names[: len(begun)] != begun:
        raise UserError(
            f"the checkpoint of step {progress.step} has begun the stages {', '.join(begun)}; the configuration has"
            f" {', '.join(names)}. Keep those that have begun, in their order, or choose a new output_dir"
        )
    start, said = 0, []
    for index, stage in enumerate(config.stages[: progress.stage + 1]):
        if index < progress.stage:
            length = saved.stages[index].length
            if stage.length != length:
                said.append(f"stage {stage.name} is over: its {length:,} tokens stand, not {stage.length:,}")
                stage.ended_after_tokens = length
            start += length
        elif index + 1 < len(config.stages) and stage.length <= progress.consumed_tokens - start:
            stage.ended_after_tokens = progress.consumed_tokens - start
            said.append(
                f"stage {stage.name} ends here, after {stage.ended_after_tokens:,} tokens: the configuration gives it"
                f" {stage.tokens:,}"
            )
    return said


def settle_progress(progress: Progress, stage: int) -> Progress:
    """The position once stages are settled: the beginning of `stage` where the saved one has just ended."""
    if stage == progress.stage:
        return progress
    return Progress(progress.step, progress.consumed_tokens, stage, 0)


def check_order(config: TrainingConfig, saved: CheckpointRecord, stage: int, present: CheckpointRecord) -> None:
    """Raise UserError where the next samples of `stage` would not be those that follow the ones already read.

    `present`: what this start would record.
    """
    progress, name, order = saved.progress, config.stages[stage].name, present.order or {}
    if stage != progress.stage or progress.samples_in_stage == 0:
        return
    sources = order.get(name) or present.data
    values: dict[str, tuple[Any, Any]] = {
        "seed": (saved.seed, config.seed),
        "seq_length": (saved.stages[stage].seq_length, config.stages[stage].seq_length),
        "data": (_contents(saved.data, sources), _contents(present.data, sources)),
    }
    before, now = (_behind(skipped, config, progress) for skipped in (saved.skip_data, config.skip_data))
    values["skip_data"] = (before, now)
    if saved.order is not None:
        values["mixture"] = (saved.order.get(name), order.get(name))
    lost = [key for key, (before, now) in values.items() if before != now and key not in config.resume.allow]
    if lost:
        changes = "\n".join(f"  {key}: {_shown(key, *values[key])}" for key in lost)
        raise UserError(
            f"stage {name} is {progress.samples_in_stage:,} samples under way, and what decides their order has"
            " changed:\n"
            f"{changes}\n"
            "Its place in the data would be lost: some tokens would be read again, others never. Set back what has"
            f" changed, or go on on purpose with resume.allow=[{', '.join(lost)}]"
            f"{BRANCH if 'skip_data' in lost else ''}"
        )


def _behind(skip_data: list[SkippedData], config: TrainingConfig, progress: Progress) -> list[str]:
    """Jumps in the data of this stage that lie behind the position: those ahead may be added and removed."""
    jumps = stage_jumps(skip_data, Schedule(config.stages, config.mtp_loss), progress)
    behind = sorted(jump for jump in jumps if jump.at < progress.samples_in_stage)
    return [f"{jump.length:,} sequences after {jump.at:,}" for jump in behind]


def _contents(data: dict[str, SourceRecord], sources: Iterable[str]) -> dict[str, Any]:
    """What a stage reads of the data: other sources, and what is held out, may change."""
    return {name: data[name].content for name in sources if name in data}


def _shown(key: str, before: Any, now: Any) -> str:
    if key in ("data", "mixture") and isinstance(before, dict) and isinstance(now, dict):
        names = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
        if key == "data":
            return f"other content in {', '.join(names)} (data.path)"
        return ", ".join(f"{name} {before.get(name, 'absent')} -> {now.get(name, 'absent')}" for name in names)
    return f"checkpoint {before!r}, configuration {now!r}"


def differences(saved: dict[str, Any], present: dict[str, Any]) -> list[str]:
    """What else differs between two configurations, a line each, at most LONGEST_LIST of them."""
    changed = [
        f"{key}: {_in_short(before)} -> {_in_short(now)}"
        for key, before, now in _differing(saved, present, "")
        if key.split(".")[0] not in UNSAID and not key.endswith(UNSAID_ENDS)
    ]
    if len(changed) > LONGEST_LIST:
        changed = [*changed[: LONGEST_LIST - 1], f"and {len(changed) - LONGEST_LIST + 1} more"]
    return changed


def _in_short(value: Any) -> str:
    """Of stages and the like the names; anything else as Python writes it, the end left out where it is long."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        value = [item["name"] for item in value]
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 4]} ..."


def _differing(before: Any, now: Any, key: str) -> list[tuple[str, Any, Any]]:
    """Leaves that differ; a setting that only one side knows, of another version, is none."""
    if isinstance(before, dict) and isinstance(now, dict):
        shared = [name for name in now if name in before]
        return [leaf for name in shared for leaf in _differing(before[name], now[name], f"{key}.{name}".strip("."))]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [leaf for number, (b, n) in pairs for leaf in _differing(b, n, f"{key}.{number}")]
    return [] if before == now else [(key, before, now)]
