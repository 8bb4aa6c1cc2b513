"""`manifest.json`: what a data folder holds, and with which tokenizer it was made."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dacite
import numpy as np

from megatron_mimo.config import UserError
from megatron_mimo.data.document import Split
from megatron_mimo.data.tokens.indexed import TokenStream, check_pair, map_tokens
from megatron_mimo.data.tokens.tokenizer import tokenizer_sha256
from megatron_mimo.platform.files import write_json


@dataclass(kw_only=True)
class TokenizerEntry:
    """The tokenizer of the data."""

    sha256: str
    vocab_size: int
    eod_token_id: int


@dataclass(kw_only=True)
class RangeEntry:
    """Documents in a row of one `.bin/.idx` pair."""

    prefix: str
    """Path of the pair without its ending, absolute or relative to the data folder."""
    sha256: dict[str, str]
    """Checksums of the two files: bin, idx."""
    pair_sequences: int
    pair_tokens: int
    first_token: int
    tokens: int


@dataclass(kw_only=True)
class SplitEntry:
    """The documents of one split: a `.bin/.idx` pair of their own, or ranges of pairs that were imported."""

    prefix: str
    """Path of the pair without its ending, relative to the data folder; empty for imported ones."""
    documents: int
    tokens: int
    """EOD tokens included."""
    bytes: int | None
    """Size of the text in UTF-8; null for imported tokens, whose text nobody has counted."""
    sha256: dict[str, str]
    """Checksums of the two files of the pair: bin, idx."""
    imported: list[RangeEntry] = field(default_factory=list)

    @property
    def ranges(self) -> list[RangeEntry]:
        """Where the tokens are, in order."""
        if not self.prefix:
            return self.imported
        whole = {"pair_sequences": self.documents, "pair_tokens": self.tokens, "tokens": self.tokens}
        return [RangeEntry(prefix=self.prefix, sha256=self.sha256, first_token=0, **whole)]


@dataclass(kw_only=True)
class SourceEntry:
    """One source, split into training and held-out documents."""

    domain: str
    train: SplitEntry
    valid: SplitEntry
    unended_documents: int = 0
    """Documents of both splits that do not end with the EOD token, so that attention runs on into the next one."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the source holds, whatever place imported pairs lie in: equal facts are equal tokens."""
        facts = dataclasses.asdict(self)
        if not self.unended_documents:
            del facts["unended_documents"]
        for split in (facts["train"], facts["valid"]):
            ranges = split.pop("imported")
            if ranges:
                split["imported"] = [{key: r[key] for key in ("sha256", "first_token", "tokens")} for r in ranges]
        return facts


@dataclass(kw_only=True)
class Manifest:
    """The whole data folder."""

    tokenizer: TokenizerEntry
    sources: dict[str, SourceEntry]
    recipe_sha256: str = ""
    """Hash of the configuration and code the folder was made with."""

    def source(self, name: str, wanted_by: str) -> SourceEntry:
        """The entry of a source; raises UserError naming the known ones."""
        if name not in self.sources:
            raise UserError(
                f"{wanted_by}: source {name!r} is not in the data folder's manifest."
                f"\nKnown sources: {', '.join(self.sources) or 'none'}. Correct the name, or add the source to the data"
                " (megatron-mimo data)."
            )
        return self.sources[name]


def read_manifest(folder: str | Path) -> Manifest:
    """Read the manifest of a data folder; raises UserError when there is none or it is damaged."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise UserError(
            f"no data at {folder}: there is no {path.name} in it."
            "\nSet data.path to a folder made by megatron-mimo data, or make one:"
            "\n    megatron-mimo data examples/nano/data.yaml"
        )
    try:
        return dacite.from_dict(Manifest, json.loads(path.read_text()), dacite.Config(strict=True))
    except (ValueError, AttributeError, dacite.DaciteError) as error:
        raise UserError(
            f"{path} is damaged: {error}\nMake the data folder anew:\n    megatron-mimo data DATA.yaml overwrite=true"
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, the last file of a data folder: with it the folder is complete."""
    write_json(folder / "manifest.json", dataclasses.asdict(manifest))


def check_tokenizer(manifest: Manifest, folder: str | Path, tokenizer: str | Path) -> None:
    """Raise UserError unless the data in `folder` was made with the tokenizer in folder `tokenizer`."""
    found = tokenizer_sha256(tokenizer)
    if found != manifest.tokenizer.sha256:
        raise UserError(
            f"the tokenizer {tokenizer} does not match the data {folder}:"
            f"\n    tokenizer.json has SHA-256  {found}"
            f"\n    the data was made with      {manifest.tokenizer.sha256}"
            f"\nSet data.tokenizer to {Path(folder) / 'tokenizer'}, or tokenize the data again with this tokenizer."
        )


def check_split(folder: str | Path, source: SourceEntry, split: Split, verify: bool = False) -> list[np.dtype]:
    """Check one split's files, which may be empty; raises UserError on missing, truncated or corrupt ones.

    Returns the type of the tokens in each of the split's ranges.
    """
    entry = source.train if split == "train" else source.valid
    return [
        check_pair(Path(folder) / part.prefix, part.pair_tokens, part.pair_sequences, part.sha256, verify).dtype
        for part in entry.ranges
    ]


def open_split(folder: str | Path, source: SourceEntry, split: Split, verify: bool = False) -> TokenStream:
    """Check one split's files and map its tokens; raises UserError on missing, truncated, corrupt or empty files."""
    dtypes = check_split(folder, source, split, verify)
    entry = source.train if split == "train" else source.valid
    if not entry.tokens:
        where = f"{Path(folder) / entry.prefix}.bin" if entry.prefix else f"the {split} split of these imported pairs"
        raise UserError(f"{where} holds no tokens: leave the source out, or give it more documents")
    return TokenStream(
        [
            map_tokens(Path(folder) / part.prefix, dtype)[part.first_token : part.first_token + part.tokens]
            for part, dtype in zip(entry.ranges, dtypes, strict=True)
            if part.tokens
        ]
    )
