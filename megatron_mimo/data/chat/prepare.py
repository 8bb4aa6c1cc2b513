"""From files of conversations to tokenized, filtered, packed samples in a folder, made once and kept.

`manifest.json` is written last and holds the hash of everything the folder depends on.
"""

import dataclasses
import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dacite
import numpy as np

from megatron_mimo.config import ChatDataConfig, ChatSourceConfig, UserError
from megatron_mimo.data.chat.intake import Intake, SourceCounts
from megatron_mimo.data.chat.packing import pack_best_fit
from megatron_mimo.data.chat.records import Record, read_records
from megatron_mimo.data.chat.samples import SampleReader
from megatron_mimo.data.tokens.tokenizer import eod_token_id, load_tokenizer, tokenizer_sha256
from megatron_mimo.platform.files import write_json


@dataclass
class ChatManifest:
    """The prepared folder."""

    recipe_sha256: str
    tokenizer_sha256: str
    vocab_size: int
    eod_token_id: int
    sources: dict[str, SourceCounts]
    train_tokens: int
    learned_tokens: int
    """Of the train tokens, those in the loss."""
    num_rows: int
    """Packed rows of all epochs."""
    fill: float
    """Share of the rows' places that hold tokens."""
    template_system: str = ""
    """The system message that the chat template writes where a conversation has none."""


def prepare_chat_data(config: ChatDataConfig, seq_length: int, epochs: int, seed: int) -> ChatManifest:
    """Make the folder `config.prepared`, or keep it where nothing it depends on has changed.

    Raises UserError for missing files, a tokenizer without template, an empty result, and, with on_bad_record=stop, for
    the first record that cannot be used.
    """
    folder = Path(config.prepared)
    recipe = _recipe_sha256(config, seq_length, epochs, seed)
    if (folder / "manifest.json").is_file() and (kept := read_chat_manifest(folder)).recipe_sha256 == recipe:
        return kept
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    intake = Intake(config, temporary, seq_length)
    counts = _write_samples(config, intake, seed)
    samples = SampleReader(temporary / "train")
    if not len(samples):
        refused = sum((Counter(source.refused) for source in counts.values()), Counter())
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in refused.most_common())
        listed = f"{reasons}; each is listed in {temporary}/refused.jsonl" if refused else "the files are empty"
        raise UserError(f"data.sources: no conversation to train on is left: {listed}")
    rows = _packed_rows(config.sources, samples, seq_length, epochs, seed)
    np.save(temporary / "rows.npy", np.array([sample for row in rows for sample in row], dtype=np.int64))
    np.save(temporary / "row_offsets.npy", np.cumsum([0, *map(len, rows)], dtype=np.int64))
    manifest = _manifest(config, counts, samples, rows, seq_length, recipe)
    manifest.template_system = intake.own_system
    write_json(temporary / "manifest.json", dataclasses.asdict(manifest))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return manifest


def read_chat_manifest(folder: Path) -> ChatManifest:
    """Raises UserError where the folder is not one of prepared chat data."""
    try:
        return dacite.from_dict(ChatManifest, json.loads((folder / "manifest.json").read_text()))
    except (OSError, ValueError, dacite.DaciteError) as error:
        raise UserError(f"{folder} holds no prepared chat data ({error}); remove it, or name another") from error


def _write_samples(config: ChatDataConfig, intake: Intake, seed: int) -> dict[str, SourceCounts]:
    counts = {source.path: SourceCounts() for source in config.sources}
    for number, source in enumerate(config.sources):
        for place, record in _taken_records(source, seed):
            intake.take(place, record, number, counts[source.path])
    intake.finish()
    return counts


def _taken_records(source: ChatSourceConfig, seed: int) -> Iterator[Record]:
    """The records of a source: all, or as many as its path asks for, drawn by the seed and kept in file order."""
    path = Path(source.file)
    if source.records is None:
        yield from read_records(path)
        return
    total = sum(1 for _ in read_records(path))
    rounds, rest = divmod(source.records, max(total, 1))
    drawn = set(random.Random(f"{seed}/{source.path}").sample(range(total), min(rest, total)))
    for number, record in enumerate(read_records(path)):
        for _ in range(rounds + (number in drawn)):
            yield record


def _packed_rows(
    sources: list[ChatSourceConfig], samples: SampleReader, seq_length: int, epochs: int, seed: int
) -> list[list[int]]:
    """Sample numbers of every row: epoch after epoch, each packed anew and shuffled."""
    rows: list[list[int]] = []
    for epoch in range(epochs):
        key = f"{seed}/{epoch}"
        drawn = _epoch_samples(sources, samples, key)
        packed = pack_best_fit([int(samples.lengths[sample]) for sample in drawn], seq_length)
        random.Random(f"{key}/rows").shuffle(packed)
        rows += [[drawn[index] for index in row] for row in packed]
    return rows


def _epoch_samples(sources: list[ChatSourceConfig], samples: SampleReader, key: str) -> list[int]:
    """Sample numbers of one epoch: every source's samples as often as its weight says."""
    drawn: list[int] = []
    for number, source in enumerate(sources):
        own: list[int] = np.flatnonzero(samples.sources == number).tolist()
        rounds, share = divmod(source.weight, 1)
        drawn += own * int(rounds) + random.Random(f"{key}/{source.path}").sample(own, round(share * len(own)))
    return drawn


def _manifest(
    config: ChatDataConfig,
    counts: dict[str, SourceCounts],
    samples: SampleReader,
    rows: list[list[int]],
    seq_length: int,
    recipe: str,
) -> ChatManifest:
    tokenizer = load_tokenizer(config.tokenizer)
    packed_tokens = sum(int(samples.lengths[row].sum()) for row in rows)
    return ChatManifest(
        recipe_sha256=recipe,
        tokenizer_sha256=tokenizer_sha256(config.tokenizer),
        vocab_size=tokenizer.get_vocab_size(),
        eod_token_id=eod_token_id(tokenizer),
        sources=counts,
        train_tokens=int(samples.lengths.sum()),
        learned_tokens=samples.learned_tokens,
        num_rows=len(rows),
        fill=packed_tokens / (len(rows) * seq_length),
    )


def _recipe_sha256(config: ChatDataConfig, seq_length: int, epochs: int, seed: int) -> str:
    """Hash of the settings, the files (size, time of change), the tokenizer and this package's code."""
    files = [Path(source.file) for source in config.sources]
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise UserError(f"data.sources: there is no file {', '.join(missing)}")
    inputs = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    settings = dataclasses.asdict(config) | {"prepared": None, "loader": None, "num_workers": None}
    tokenizer = [path for path in sorted(Path(config.tokenizer).glob("*")) if path.suffix in (".json", ".jinja")]
    code = sorted(Path(__file__).parent.glob("*.py"))
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in [*tokenizer, *code]]
    return hashlib.sha256(json.dumps([settings, inputs, hashes, seq_length, epochs, seed]).encode()).hexdigest()
