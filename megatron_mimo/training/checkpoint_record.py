"""What a checkpoint tells of its run: `run.json`, written and read here and nowhere else. No torch.

The file is one flat JSON mapping. Version 1, which does not name its version, keeps the recipe in the whole
configuration (`config`) and is read as ever; version 2 has what readers need in fields of its own; version 3 adds what
weights keep of those they started from.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dacite

from megatron_mimo.config import LoRAConfig, ModelConfig, StageConfig, UserError
from megatron_mimo.config.load import from_tree
from megatron_mimo.config.stages import SkippedData
from megatron_mimo.platform.files import write_json
from megatron_mimo.training.state import Progress

RUN_FILE = "run.json"
VERSION = 3
POSITION = tuple(entry.name for entry in dataclasses.fields(Progress))


class NewerRecord(UserError):
    """A later version of this program wrote it: the checkpoint may be sound, and must not be taken for damaged."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What export, and a resumed run, need to know of a stage."""

    name: str
    seq_length: int
    rotary_base: int
    tokens: int = 0
    """By plan; 0 where nobody planned any."""
    mixture: str = ""
    """Path of its mixture file; empty where the data has none."""
    ended_after_tokens: int | None = None
    """As `StageConfig.ended_after_tokens`."""

    @property
    def length(self) -> int:
        """Tokens that the stage takes: as planned, or as it came."""
        return self.tokens if self.ended_after_tokens is None else self.ended_after_tokens


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """A source of training data."""

    domain: str
    documents: int
    tokens: int
    content: dict[str, Any]
    """Fingerprint of what is trained on: with another one, a run's place in the data is lost."""


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """Everything that a checkpoint tells beside its tensors. None: nobody knows, or there is none."""

    name: str
    """Of the run."""
    model: ModelConfig
    stages: list[StageRecord]
    tokenizer_sha256: str
    tokenizer_folder: str
    progress: Progress = field(default_factory=Progress)
    seed: int | None = None
    dtype: str | None = None
    """`bf16` or `fp32`."""
    lora: LoRAConfig | None = None
    """Of the low-rank updates that the checkpoint holds beside the weights."""
    start_checkpoint: str = ""
    """Where the run's first weights came from; empty for random ones."""
    start_mtp_layers: int | None = None
    """MTP layers that they had."""
    start_seq_length: int | None = None
    """Tokens of the longest sequences that they were made for."""
    start_rotary_base: int | None = None
    generation_config: dict[str, Any] | None = None
    """generation_config.json of the Hugging Face folder that the weights, or those they started from, came from."""
    hugging_face_vocab_size: int | None = None
    """Rows to export, where an import padded the vocabulary."""
    imported_from: str | None = None
    """The Hugging Face folder, of weights that have not been trained since."""
    weights_only: bool = False
    """There is no optimizer: runs start from it, none resumes."""
    chat_trained: bool | None = None
    thinks: bool | None = None
    """Whether its answers begin with a think block."""
    license: str | None = None
    data: dict[str, SourceRecord] = field(default_factory=dict)
    order: dict[str, dict[str, Any]] | None = None
    """By stage, what decides beside `data`, seed and sequence length which samples it has and in what order."""
    skip_data: list[SkippedData] = field(default_factory=list)
    """What the run leaves out of it."""
    guard: dict[str, Any] = field(default_factory=dict)
    """`LossGuard.state_dict()`."""
    driver: dict[str, Any] | None = None
    """JSON values of whoever steers the run: RL's prompts and rollouts."""
    world_size: int = 0
    layout: dict[str, Any] = field(default_factory=dict)
    """Settings of `parallel`, and `data_parallel_size`."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of packages."""
    backend: str | None = None
    device: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    """The whole configuration, for people and to say what a resumed run finds changed; no setting is read of it."""

    def __post_init__(self) -> None:
        if not 0 <= self.progress.stage < len(self.stages):
            raise ValueError(f"stage {self.progress.stage} is not one of its {len(self.stages)} stages")

    @property
    def last_stage(self) -> StageRecord:
        """The stage of the last step; `progress` names that of the next, of which the model may have seen nothing."""
        begins = self.progress.stage > 0 and self.progress.samples_in_stage == 0
        return self.stages[self.progress.stage - int(begins)]

    @property
    def context_length(self) -> int:
        """Tokens of the longest sequences that the weights are made for: shorter ones, trained on with the same RoPE
        base, do not take it away."""
        trained = self.last_stage
        kept = self.start_seq_length if self.start_rotary_base == trained.rotary_base else None
        return max(trained.seq_length, kept or 0)

    @property
    def exported_vocab_size(self) -> int:
        """Rows of embedding and head without padding."""
        return self.hugging_face_vocab_size or self.model.vocab_size


def write_record(folder: Path, record: CheckpointRecord) -> None:
    """Write `run.json` of the checkpoint in `folder`."""
    tree = dataclasses.asdict(record)
    write_json(folder / RUN_FILE, {"version": VERSION} | tree.pop("progress") | tree)


def read_record(folder: Path) -> CheckpointRecord:
    """The record of a checkpoint. Raises UserError where the folder has none that is sound, NewerRecord for one of a
    later version."""
    path = folder / RUN_FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        version = tree.get("version", 1)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder} is not a complete checkpoint ({RUN_FILE}: {error}); name a step_* folder that has one"
        ) from error
    if isinstance(version, int) and version > VERSION:
        raise NewerRecord(
            f"{path} has version {version}, this program reads up to {VERSION}: a later megatron-mimo wrote the"
            " checkpoint; use that one, or choose a new output_dir"
        )
    try:
        return _from_tree(_upgraded(tree) if version == 1 else tree, str(path))
    except (KeyError, ValueError, TypeError, AttributeError, dacite.DaciteError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is not a {RUN_FILE} of this project: {reason}") from error


def stage_records(stages: Sequence[StageConfig]) -> list[StageRecord]:
    """What is recorded of the stages of a configuration; those of conversations have no mixture."""
    names = [entry.name for entry in dataclasses.fields(StageRecord)]
    return [StageRecord(**{name: getattr(stage, name) for name in names if hasattr(stage, name)}) for stage in stages]


def source_records(facts: dict[str, Any]) -> dict[str, SourceRecord]:
    """What is recorded of the data, from `TrainingData.facts`."""
    return {
        name: SourceRecord(
            domain=source["domain"],
            documents=source["train"]["documents"],
            tokens=source["train"]["tokens"],
            content=source["train"],
        )
        for name, source in facts.items()
    }


def _from_tree(tree: dict[str, Any], path: str) -> CheckpointRecord:
    position = {name: tree[name] for name in POSITION}
    fields = {name: value for name, value in tree.items() if name not in (*POSITION, "version")}
    # Configurations have a reader that names the key which does not fit.
    hooks: dict[Any, Any] = {
        kind: lambda value, kind=kind: from_tree(kind, value, path) for kind in (ModelConfig, LoRAConfig)
    }
    return dacite.from_dict(
        CheckpointRecord, fields | {"progress": position}, dacite.Config(strict=True, type_hooks=hooks)
    )


_SINCE_VERSION_1 = (
    *("model", "tokenizer_sha256", "hugging_face_vocab_size", "imported_from", "weights_only", "chat_trained"),
    *("license", "order", "guard", "driver", "world_size", "layout", "versions", "backend", "device", "config"),
    "start_mtp_layers",
)
"""Fields that have not changed."""


def _upgraded(tree: dict[str, Any]) -> dict[str, Any]:
    """A version-1 record as a version-2 one; raises KeyError or TypeError where it lacks what it always had."""
    config = tree["config"]
    stage_keys = [entry.name for entry in dataclasses.fields(StageRecord)]
    stages = [{key: stage[key] for key in stage_keys if key in stage} for stage in config["stages"]]
    kept = {key: tree[key] for key in (*POSITION, *_SINCE_VERSION_1) if key in tree}
    return kept | {
        "name": config.get("name", "MiMo"),
        "stages": stages,
        "tokenizer_folder": config["data"]["tokenizer"],
        "seed": config.get("seed"),
        "dtype": config.get("precision", {}).get("dtype"),
        "lora": config.get("lora"),
        "start_checkpoint": (config.get("start") or {}).get("checkpoint", ""),
        "data": {name: dataclasses.asdict(of) for name, of in source_records(tree.get("data", {})).items()},
    }
