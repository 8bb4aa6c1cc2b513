"""What a pipeline's YAML says: where it works, who works, and its stages in order."""

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from megatron_mimo.config import ConfigError
from megatron_mimo.config.errors import require_at_least

STAGE_NAME = re.compile(r"[A-Za-z0-9_-]+")
RESERVED_NAMES = {"done", "dropped", "failed", "inputs", "running", "slurm"}


@dataclass(kw_only=True)
class LocalConfig:
    """Worker processes on this machine."""

    RENAMED: ClassVar = {"workers": "num_workers"}

    num_workers: int = 1
    """Processes; 0 runs every task in the calling process (to debug a step)."""

    def __post_init__(self) -> None:
        require_at_least(0, "executor.local", num_workers=self.num_workers)


@dataclass(kw_only=True)
class SlurmConfig:
    """One job array per stage, each waiting for the one before."""

    partition: str | None = None
    account: str | None = None
    time: str = "12:00:00"
    cpus_per_task: int = 1
    """Worker processes (and CPUs) of one array element."""
    memory_per_cpu: str = "4G"
    tasks_per_job: int = 1
    """Pipeline tasks that one array element runs, one after another over its workers."""
    max_running: int | None = None
    """Array elements that run at once; null leaves it to Slurm."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before the work: modules, virtual environment."""
    options: list[str] = field(default_factory=list)
    """More `#SBATCH` options, as `--qos=low`."""

    def __post_init__(self) -> None:
        require_at_least(
            1,
            "executor.slurm",
            cpus_per_task=self.cpus_per_task,
            tasks_per_job=self.tasks_per_job,
            max_running=self.max_running,
        )


@dataclass(kw_only=True)
class RayConfig:
    """Ray tasks, on a cluster or started on this machine."""

    address: str | None = None
    """`auto` or `ray://host:port`; null starts Ray here."""
    cpus_per_task: float = 1.0
    """May be a fraction: more tasks than cores at a time."""
    num_cpus: int | None = None
    """Logical CPUs of a Ray started here; null counts the machine's."""

    def __post_init__(self) -> None:
        if self.cpus_per_task <= 0:
            raise ConfigError("executor.ray.cpus_per_task", self.cpus_per_task, "must be above 0")


@dataclass(kw_only=True)
class ExecutorConfig:
    """Who runs the tasks: exactly one of the three; none is `local: {}`."""

    local: LocalConfig | None = None
    slurm: SlurmConfig | None = None
    ray: RayConfig | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("local", "slurm", "ray") if getattr(self, name) is not None]
        if not given:
            self.local = LocalConfig()
        if len(given) > 1:
            raise ConfigError("executor", given, "give one of local, slurm and ray")


@dataclass(kw_only=True)
class PipelineStageConfig:
    """Documents from a reader or from earlier stages, through steps, into shards; or a global deduplication."""

    name: str
    """Name of its folder under `output_dir`."""
    reader: dict | None = None
    """`{kind: warc | html | pdf | jsonl | parquet | embedded, ...}` and the options of that reader."""
    inputs: list[str] = field(default_factory=list)
    """Earlier stages whose shards are read; empty takes the stage before."""
    steps: list[dict] = field(default_factory=list)
    """`{step: NAME, ...}` and the options of that step, in order. `stage:NAME` in an option is that stage's folder."""
    dedup: dict | None = None
    """Options of the global near-deduplication over the shards of the input: it writes its verdicts, no documents."""
    num_tasks: int | None = None
    """Tasks of this stage; null takes the pipeline's, or after other stages the number of shards they wrote."""
    dropped: Literal["text", "ids", "none"] = "text"
    """What is kept of dropped documents: all, all but text and binary content, or counts and samples alone."""

    def __post_init__(self) -> None:
        if not STAGE_NAME.fullmatch(self.name) or self.name in RESERVED_NAMES:
            raise ConfigError("stages.name", self.name, "use letters, digits, - and _; and none of the pipeline's own")
        require_at_least(1, f"stage {self.name}", num_tasks=self.num_tasks)
        if self.reader is not None and self.inputs:
            raise ConfigError(f"stage {self.name}: inputs", self.inputs, "a stage with a reader has no other inputs")
        if self.dedup is not None and (self.reader is not None or self.steps):
            raise ConfigError(f"stage {self.name}: dedup", self.dedup, "stands alone: give readers and steps a stage")


@dataclass(kw_only=True)
class PipelineConfig:
    """Raw files -> shards of documents."""

    output_dir: str
    num_tasks: int = 1
    """Tasks of the stages that read files; each takes its share of them."""
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    stages: list[PipelineStageConfig]
    overwrite: bool = False
    """Start anew in a folder that was made with other settings."""

    def __post_init__(self) -> None:
        require_at_least(1, "pipeline", num_tasks=self.num_tasks)
        names: list[str] = []
        for index, stage in enumerate(self.stages):
            if stage.name in names:
                raise ConfigError(f"stages.{index}.name", stage.name, "stage names must differ")
            unknown = [name for name in stage.inputs if name not in names]
            if unknown:
                raise ConfigError(f"stages.{index}.inputs", unknown[0], f"no stage before has it: {names}")
            if stage.reader is None and not names:
                raise ConfigError(f"stages.{index}.reader", None, "the first stage needs a reader")
            names.append(stage.name)
        if not names:
            raise ConfigError("stages", [], "a pipeline needs at least one stage")
