"""Names in the YAML -> classes, imported when they are used; options are checked as strictly as all configuration."""

import dataclasses
import difflib
import importlib
from typing import Any

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.load import from_tree
from megatron_mimo.data.pipeline.step import Step

STEPS = {
    "extract": "megatron_mimo.data.extract.extract_step:Extract",
    "extract_pdf": "megatron_mimo.data.extract.pdf_step:ExtractPdf",
    "exact_dedup": "megatron_mimo.data.pipeline.basic_steps:ExactDedup",
    "shuffle": "megatron_mimo.data.pipeline.basic_steps:Shuffle",
    "hold_out": "megatron_mimo.data.pipeline.basic_steps:HoldOut",
    "length": "megatron_mimo.data.pipeline.basic_steps:Length",
    "dedup": "megatron_mimo.data.dedup.drop:DropDuplicates",
    "hold_out_clusters": "megatron_mimo.data.dedup.hold_out:HoldOutClusters",
    "language": "megatron_mimo.data.tag.language:LanguageStep",
    "tag": "megatron_mimo.data.tag.tag_step:TagStep",
    "heuristics": "megatron_mimo.data.tag.heuristics:HeuristicsStep",
    "decontaminate": "megatron_mimo.data.decontaminate.step:Decontaminate",
    "form": "megatron_mimo.rl.problems.curation:ProblemForm",
    "ngram_dedup": "megatron_mimo.rl.problems.curation:NgramDedup",
    "golden": "megatron_mimo.rl.problems.golden:GoldenSolution",
    "assign_source": "megatron_mimo.data.balance.buckets:AssignSource",
}
"""Steps by name. Your own step needs no entry: `{step: my_package.my_module:MyStep}`."""

READERS = {
    "warc": "megatron_mimo.data.pipeline.readers.warc:WarcReader",
    "html": "megatron_mimo.data.pipeline.readers.html_pages:HtmlReader",
    "pdf": "megatron_mimo.data.pipeline.readers.pdf_files:PdfReader",
    "jsonl": "megatron_mimo.data.pipeline.readers.jsonl:JsonlReader",
    "parquet": "megatron_mimo.data.pipeline.readers.parquet:ParquetReader",
    "embedded": "megatron_mimo.data.pipeline.readers.embedded:EmbeddedReader",
    "pydoc": "megatron_mimo.data.pipeline.readers.pydoc_pages:PydocReader",
}

DEDUP_CONFIG = "megatron_mimo.data.dedup.config:DedupConfig"
DEDUP_STAGES = "megatron_mimo.data.dedup.stages:dedup_stages"


def build_step(options: dict[str, Any], key: str) -> Step:
    """The step that `{step: NAME, option: value, ...}` describes; `key` is its place in the file, for errors."""
    return _build(options, "step", STEPS, key)


def build_reader(options: dict[str, Any], key: str) -> Any:
    """The reader that `{kind: NAME, option: value, ...}` describes."""
    return _build(options, "kind", READERS, key)


def build_options(target: str, options: dict[str, Any], key: str) -> Any:
    """The dataclass `module:Class` with these options; raises UserError naming `key` and the known options."""
    built = load_object(target, key)
    known = [field.name for field in dataclasses.fields(built) if field.init]
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            options_known = f"known: {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"{key}.{name}", value, f"unknown option; {hint}{options_known}")
    return from_tree(built, options, source=key)


def load_object(target: str, key: str) -> Any:
    """The object that `module:name` stands for; raises ConfigError where it or what it needs is not installed."""
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ConfigError(key, target, f"cannot be imported ({error}): install what it needs") from error
    except AttributeError as error:
        raise ConfigError(key, target, f"{module} has no {name}") from error


def _build(options: dict[str, Any], name_key: str, known: dict[str, str], key: str) -> Any:
    if name_key not in options:
        raise UserError(f"config error: {key}.{name_key} is missing; one of {', '.join(sorted(known))}")
    name = options[name_key]
    target = known.get(name, name) if isinstance(name, str) else ""
    if ":" not in target:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"{key}.{name_key}", name, f"unknown; {hint}known: {', '.join(sorted(known))}")
    return build_options(target, {other: value for other, value in options.items() if other != name_key}, key)
