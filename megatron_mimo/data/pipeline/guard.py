"""A pipeline's folder remembers what it was made with, and is not continued with anything else."""

import dataclasses
import json
import shutil
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.data.document import digest
from megatron_mimo.data.pipeline import registry
from megatron_mimo.data.pipeline.config import PipelineConfig
from megatron_mimo.data.pipeline.files import InputFile
from megatron_mimo.data.pipeline.layout import Layout
from megatron_mimo.data.pipeline.plan import listed_inputs, steps_of, write_inputs
from megatron_mimo.platform.files import write_json

DIFFERENCES_NAMED = 8


def claim_folder(config: PipelineConfig) -> Layout:
    """Prepare `output_dir`, or check that it belongs to this very pipeline; raises UserError naming what differs.

    With `overwrite`, what another pipeline left there is removed first: the folders of its stages and nothing else.
    """
    layout = Layout.of(config.output_dir)
    files = listed_inputs(config)
    settings = resolved_settings(config, layout, files)
    if layout.settings.exists():
        before = json.loads(layout.settings.read_text(encoding="utf-8"))
        differences = _differences(before, json.loads(json.dumps(settings)))
        if differences and not config.overwrite:
            _refuse(layout, differences)
        if differences:
            _remove(layout, before)
    layout.root.mkdir(parents=True, exist_ok=True)
    write_inputs(layout, files)
    write_json(layout.settings, settings)
    return layout


def resolved_settings(config: PipelineConfig, layout: Layout, files: dict[str, list[InputFile]]) -> dict[str, Any]:
    """What decides the bytes of the output: every option with its default, not who works and where."""
    stages = []
    for index, stage in enumerate(config.stages):
        tree = dataclasses.asdict(stage)
        if stage.reader is not None:
            reader = registry.build_reader(stage.reader, f"stages.{index}.reader")
            tree["reader"] = {"kind": stage.reader["kind"], **_options(reader), "code": reader.code()}
            tree["files"] = _described(files[stage.name])
        steps = zip(stage.steps, steps_of(stage, layout, f"stages.{index}"), strict=True)
        # Folders of other stages stay as they were written: the whole folder may be moved.
        tree["steps"] = [{**_options(step), **options} for options, step in steps]
        stages.append(tree)
    return {"num_tasks": config.num_tasks, "stages": {tree["name"]: tree for tree in stages}}


def _described(files: list[InputFile]) -> str:
    """Number, size and identity of a list of files in one line."""
    names = "\n".join(f"{file.name} {file.size_bytes}" for file in files)
    size = sum(file.size_bytes for file in files)
    return f"{len(files)} files, {size} bytes, sha256 {digest(names).hex()[:12]}"


def _options(built: Any) -> dict[str, Any]:
    fields = [field.name for field in dataclasses.fields(built) if field.init]
    return json.loads(json.dumps({name: getattr(built, name) for name in fields}, default=str))


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    """`key: before -> now` for every value that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [line for name in keys for line in _differences(before.get(name), now.get(name), f"{key}.{name}")]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [line for index, (a, b) in pairs for line in _differences(a, b, f"{key}.{index}")]
    return [] if before == now else [f"{key.removeprefix('.')}: {before!r} there, {now!r} now"]


def _refuse(layout: Layout, differences: list[str]) -> None:
    more = len(differences) - DIFFERENCES_NAMED
    lines = [*differences[:DIFFERENCES_NAMED], *([f"and {more} more"] if more > 0 else [])]
    raise UserError(
        f"{layout.root} was made with other settings:\n  "
        + "\n  ".join(lines)
        + "\nGo back to them, give another output_dir, or overwrite=true to make the folder anew."
    )


def _remove(layout: Layout, before: dict[str, Any]) -> None:
    layout.settings.unlink()
    for name in ["done", "dropped", "failed", "inputs", "running", "slurm", *before["stages"]]:
        shutil.rmtree(layout.root / name, ignore_errors=True)


def read_layout(config: PipelineConfig) -> Layout:
    """The folder of a pipeline that has begun there; raises UserError when none has."""
    layout = Layout.of(config.output_dir)
    if not layout.settings.exists():
        raise UserError(f"no pipeline has begun in {layout.root}")
    return layout
