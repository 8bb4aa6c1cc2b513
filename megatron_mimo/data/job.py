"""One YAML for both halves of the data: raw files -> shards (`pipeline:`), shards -> `.bin/.idx` (`tokenize:`)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import ConfigError, UserError, to_yaml
from megatron_mimo.config.layers import apply_override, read_merged
from megatron_mimo.config.load import from_tree
from megatron_mimo.config.renamed import with_present_key
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.plan import stages_of
from megatron_mimo.data.tokens.preprocess import PreprocessConfig, preprocess, write_held_out_problems
from megatron_mimo.data.tokens.tokenize_source import held_out_path
from megatron_mimo.platform.files import write_text

Report = Callable[[str], None]


@dataclass(kw_only=True)
class JobConfig:
    """What `megatron-mimo data CONFIG.yaml` reads; a file without the two parts is only `tokenize`."""

    output_dir: str | None = None
    """Folder of the tokenized data, and in `pipeline/` of what comes before it; each part may name its own."""
    overwrite: bool = False
    """For both parts: replace what was made in another way."""
    pipeline: PipelineConfig | None = None
    tokenize: PreprocessConfig | None = None
    """Its sources may name a stage of the pipeline in `shards`."""

    def __post_init__(self) -> None:
        if self.pipeline is None and self.tokenize is None:
            raise ConfigError("pipeline", None, "give pipeline, tokenize, or both")


def load_job(path: str, overrides: list[str]) -> JobConfig:
    """Read the file strictly, options of readers and steps included; raises UserError naming file and key."""
    tree = read_merged(Path(path))
    is_whole = "pipeline" in tree or "tokenize" in tree
    overrides = [with_present_key(JobConfig if is_whole else PreprocessConfig, override) for override in overrides]
    for override in overrides:
        apply_override(tree, override)
    if "pipeline" not in tree and "tokenize" not in tree:
        return JobConfig(tokenize=from_tree(PreprocessConfig, tree, source=path, overrides=overrides))
    job = from_tree(JobConfig, _filled_in(tree), source=path, overrides=overrides)
    if job.pipeline is not None:
        try:
            stages_of(job.pipeline)
        except UserError as error:
            raise UserError(f"{path}: pipeline: {error}") from error
    return job


def write_job(job: JobConfig, layout: Layout) -> None:
    """Leave the resolved configuration in the pipeline's folder."""
    write_text(layout.config, to_yaml(job))


def tokenize(job: JobConfig, report: Report) -> None:
    """The second half, where the file has one."""
    if job.tokenize is None:
        return
    preprocess(job.tokenize, report)
    if job.pipeline is not None:
        _write_held_out_problems(job.pipeline, job.tokenize)


def _filled_in(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with the job's folder and `overwrite` passed on to its parts, and stage names turned into folders."""
    pipeline, tokens = tree.get("pipeline"), tree.get("tokenize")
    folder = tree.get("output_dir")
    if isinstance(pipeline, dict) and folder is not None:
        pipeline.setdefault("output_dir", f"{folder}/pipeline")
    if isinstance(tokens, dict) and folder is not None:
        tokens.setdefault("output_dir", folder)
    for part in (pipeline, tokens):
        if isinstance(part, dict) and "overwrite" in tree:
            part.setdefault("overwrite", tree["overwrite"])
    if isinstance(pipeline, dict) and isinstance(tokens, dict):
        _name_shards(pipeline, tokens)
    return tree


def _name_shards(pipeline: dict[str, Any], tokens: dict[str, Any]) -> None:
    """`shards: STAGE` becomes that stage's folder; anything else stays a folder."""
    stages = [stage.get("name") for stage in pipeline.get("stages") or [] if isinstance(stage, dict)]
    for source in tokens.get("sources") or []:
        if isinstance(source, dict) and source.get("shards") in stages:
            source["shards"] = f"{pipeline.get('output_dir')}/{source['shards']}"


def _write_held_out_problems(pipeline: PipelineConfig, config: PreprocessConfig) -> None:
    """`heldout/arithmetic.jsonl` for the evaluation: prompts and answers of the held-out arithmetic."""
    folder = Path(config.output_dir)
    shards = {
        f"{pipeline.output_dir}/{stage.name}"
        for stage in pipeline.stages
        if stage.reader == {"kind": "embedded", "source": "arithmetic"}
    }
    for source in config.sources:
        if source.shards in shards:
            write_held_out_problems(folder, held_out_path(folder, source.name))
