"""Offline job: documents -> tokenizer -> Megatron `.bin/.idx` pairs, held-out texts and manifest.

A finished folder has a `manifest.json`; one interrupted before that continues with the next source (`progress.json`),
and where a source is made of shards, with the next shard.
"""

import dataclasses
import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dacite
from tokenizers import Tokenizer

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.nano.corpus import CONTENT_VERSION
from megatron_mimo.data.nano.corpus_arithmetic import problems
from megatron_mimo.data.tokens.encoder import vocabulary_size
from megatron_mimo.data.tokens.import_tokens import import_source
from megatron_mimo.data.tokens.manifest import (
    Manifest,
    SourceEntry,
    TokenizerEntry,
    check_split,
    read_manifest,
    write_manifest,
)
from megatron_mimo.data.tokens.sources import SourceConfig, source_documents, source_files
from megatron_mimo.data.tokens.tokenize_source import TokenizeJob, held_out_path, remove_parts, tokenize_source
from megatron_mimo.data.tokens.tokenizer import (
    eod_token_id,
    load_tokenizer,
    save_tokenizer,
    tokenizer_sha256,
    train_tokenizer,
)
from megatron_mimo.platform.files import write_json, write_text


@dataclass(kw_only=True)
class TokenizerConfig:
    """A tokenizer to train, or a Hugging Face folder to use."""

    path: str | None = None
    """Existing tokenizer folder; null trains one on the train splits."""
    vocab_size: int = 2048
    train_bytes: int = 64_000_000
    """Text read to train the tokenizer."""


@dataclass(kw_only=True)
class PreprocessConfig:
    """One data folder: `megatron-mimo data CONFIG.yaml` reads exactly this."""

    output_dir: str
    sources: list[SourceConfig]
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    overwrite: bool = False
    """Replace a finished folder that was made in another way, or is damaged."""
    num_workers: int = 0
    """Processes that tokenize; 0 does it in this one. The files are the same for any number."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ConfigError("num_workers", self.num_workers, "must be 0 or more")
        names = [source.name for source in self.sources]
        if not names or len(set(names)) != len(names):
            raise ConfigError("sources", names, "give at least one source, each with a name of its own")
        if self.tokenizer.path is None and any(source.pairs is not None for source in self.sources):
            raise ConfigError(
                "tokenizer.path", None, "pairs are tokenized already: name the tokenizer they were made with"
            )


def preprocess(config: PreprocessConfig, report: Callable[[str], None] = print) -> Manifest:
    """Make the data folder, or keep it where it is up to date; `report` takes lines of progress.

    Raises UserError, and changes nothing, when a finished folder was made in another way and `overwrite` is off.
    """
    folder, recipe = Path(config.output_dir), recipe_sha256(config)
    if (folder / "manifest.json").exists():
        if not config.overwrite:
            return _kept(folder, recipe, report)
        (folder / "manifest.json").unlink()
    tokenizer = _make_tokenizer(config, folder, report)
    entries = _finished_sources(folder, recipe)
    target = folder / "tokenizer"
    job = TokenizeJob(folder, target, tokenizer_sha256(target), recipe, config.num_workers)
    if job.encoder.notice:
        report(job.encoder.notice)
    for source in config.sources:
        if source.name not in entries:
            entries[source.name] = _write_source(source, folder, job, report)
            tree = {name: dataclasses.asdict(entry) for name, entry in entries.items()}
            write_json(folder / "progress.json", {"recipe_sha256": recipe, "sources": tree})
            remove_parts(source, job)
        report(_describe(source.name, entries[source.name]))
    manifest = Manifest(tokenizer=_tokenizer_entry(folder, tokenizer), sources=entries, recipe_sha256=recipe)
    write_manifest(folder, manifest)
    (folder / "progress.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "parts", ignore_errors=True)
    return manifest


def recipe_sha256(config: PreprocessConfig) -> str:
    """Hash of what decides the folder's content: settings, input files (name, size), content version, Python."""
    settings = dataclasses.asdict(config) | {"output_dir": None, "overwrite": None, "num_workers": None}
    for source in settings["sources"] or []:
        if source["pairs"] is None:  # settings that came later must not change the hash of folders without them
            del source["pairs"], source["valid_pairs"], source["eod"]
    inputs = [(path, Path(path).stat().st_size) for source in config.sources for path in source_files(source)]
    tokenizer = tokenizer_sha256(config.tokenizer.path) if config.tokenizer.path else None
    decides = [settings, inputs, tokenizer, CONTENT_VERSION, platform.python_version()]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _kept(folder: Path, recipe: str, report: Callable[[str], None]) -> Manifest:
    """The manifest of a finished folder; raises UserError when the folder is damaged or was made in another way."""
    manifest = read_manifest(folder)
    if manifest.recipe_sha256 != recipe:
        raise UserError(
            f"{folder} holds finished data that was made with other settings, code or Python: it is left as it is."
            "\nGive overwrite=true to replace it, or output_dir=FOLDER to write elsewhere."
        )
    _check_sources(folder, manifest.sources)
    report(f"{folder} is up to date: kept")
    return manifest


def _check_sources(folder: Path, entries: dict[str, SourceEntry]) -> None:
    for entry in entries.values():
        for split in ("train", "valid"):
            check_split(folder, entry, split, verify=True)


def _finished_sources(folder: Path, recipe: str) -> dict[str, SourceEntry]:
    """Sources that an interrupted run of the same recipe wrote, if they are sound."""
    try:
        progress = json.loads((folder / "progress.json").read_text())
        if progress["recipe_sha256"] != recipe:
            return {}
        entries = {name: dacite.from_dict(SourceEntry, entry) for name, entry in progress["sources"].items()}
        _check_sources(folder, entries)
        return entries
    except (OSError, ValueError, KeyError, dacite.DaciteError, UserError):
        return {}


def _make_tokenizer(config: PreprocessConfig, folder: Path, report: Callable[[str], None]) -> Tokenizer:
    """Copy the given tokenizer into the folder, or train one there."""
    target = folder / "tokenizer"
    if config.tokenizer.path is not None:
        tokenizer = load_tokenizer(config.tokenizer.path)
        eod_token_id(tokenizer)
        if Path(config.tokenizer.path).resolve() != target.resolve():
            shutil.copytree(config.tokenizer.path, target, dirs_exist_ok=True)
        return tokenizer
    report(f"training a tokenizer of {config.tokenizer.vocab_size} tokens")
    tokenizer = train_tokenizer(_tokenizer_texts(config), config.tokenizer.vocab_size)
    save_tokenizer(tokenizer, target)
    return tokenizer


def _tokenizer_texts(config: PreprocessConfig) -> Iterator[str]:
    read_bytes = 0
    for source in config.sources:
        for document in source_documents(source):
            if document.split == "train":
                read_bytes += len(document.text.encode())
                if read_bytes > config.tokenizer.train_bytes:
                    return
                yield document.text


def _tokenizer_entry(folder: Path, tokenizer: Tokenizer) -> TokenizerEntry:
    return TokenizerEntry(
        sha256=tokenizer_sha256(folder / "tokenizer"),
        vocab_size=vocabulary_size(tokenizer),
        eod_token_id=eod_token_id(tokenizer),
    )


def _write_source(source: SourceConfig, folder: Path, job: TokenizeJob, report: Callable[[str], None]) -> SourceEntry:
    """Tokenize or import one source; for arithmetic also write the held-out prompts and answers."""
    entry = tokenize_source(source, job) if source.pairs is None else import_source(source, job, report)
    if source.embedded == "arithmetic":
        write_held_out_problems(folder, held_out_path(folder, source.name))
    return entry


def write_held_out_problems(folder: Path, texts: Path) -> None:
    """`heldout/arithmetic.jsonl`: prompts and answers of the problems whose texts are held out."""
    by_id = {problem.id: problem for problem in problems()}
    with texts.open(encoding="utf-8") as held_out:
        asked = [by_id[json.loads(line)["id"]] for line in held_out]
    records = [{"id": problem.id, "prompt": problem.prompt, "answer": str(problem.answer)} for problem in asked]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_text(folder / "heldout" / "arithmetic.jsonl", lines)


def _describe(name: str, entry: SourceEntry) -> str:
    """One line on a source: sizes of its splits and, of text that was tokenized here, bytes per token."""
    train, valid = entry.train, entry.valid
    text = ""
    if train.bytes is not None:
        text = f" {train.bytes / 1e6:>7.2f} MB ({train.bytes / max(train.tokens, 1):.2f} bytes per token)"
    return (
        f"{name:<12} {entry.domain:<10} train {train.documents:>7,} documents {train.tokens:>10,} tokens{text},"
        f" valid {valid.documents:>4,} documents {valid.tokens:>7,} tokens"
    )
