"""The tokens that MTP layers may draft: the most frequent ones of a language or domain, for a smaller head.

Verification knows the whole vocabulary: tokens outside the list are never drafted, and the text stays what it would be
without drafts. FastMTP (arXiv 2509.18362) keeps 32,000 of 151,680 tokens for English, 16,000 for Chinese.

`draft_vocabulary.json` in an exported folder holds the list; this project's vLLM plugin reads it, and no other program
takes notice of it.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from megatron_mimo.config import UserError
from megatron_mimo.platform.files import write_json

FILE = "draft_vocabulary.json"
VARIABLE = "MEGATRON_MIMO_DRAFT_VOCABULARY"
"""Environment variable with the path of another list for this start, or `none` for all tokens."""


@dataclass(frozen=True)
class DraftVocabulary:
    """Which tokens, and what is known of them."""

    token_ids: list[int]
    """Rising."""
    coverage: float
    """Share of the counted tokens that are in the list: no more drafts can be right in such text."""
    counted_tokens: int
    counted: list[str]
    """Files and folders."""


def choose(counts: np.ndarray, size: int, always: Iterable[int], counted: list[str]) -> DraftVocabulary:
    """The `size` most frequent tokens by counts [v], `always` (ends of turns) among them; of equals the lower id.

    Raises UserError where the vocabulary has no more than `size` tokens, or nothing was counted.
    """
    needed = sorted(set(always))
    if not len(needed) < size < len(counts):
        raise UserError(f"--size {size}: must be above {len(needed)} and below the vocabulary's {len(counts)} tokens")
    total = int(counts.sum())
    if not total:
        raise UserError("no token was counted: name texts that the model is to write")
    ranked = [int(token) for token in np.argsort(-counts, kind="stable") if token not in needed]
    chosen = sorted([*needed, *ranked[: size - len(needed)]])
    return DraftVocabulary(chosen, float(counts[chosen].sum() / total), total, counted)


def write(folder: Path, vocabulary: DraftVocabulary) -> Path:
    """Put the list into an exported folder."""
    path = folder / FILE
    write_json(path, asdict(vocabulary))
    return path


def read(folder: Path, vocab_size: int) -> list[int] | None:
    """The ids for this start, of the folder or of VARIABLE; None for all. Raises UserError for a list that is none."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen == "none":
        return None
    path = Path(chosen) if chosen else folder / FILE
    if not chosen and not path.is_file():
        return None
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))["token_ids"]
        sound = all(isinstance(one, int) for one in ids) and ids == sorted(set(ids)) and bool(ids)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no draft vocabulary: {error!r}; make it with megatron-mimo draft-vocabulary"
        ) from error
    if not sound or not 0 <= ids[0] <= ids[-1] < vocab_size:
        raise UserError(f"{path}: token_ids must be whole numbers that rise, from 0 to {vocab_size - 1} at most")
    return ids
