"""Where the tokens come from and how a batch is cut out of them."""

from dataclasses import dataclass
from typing import Literal

from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.config.eval import TaskScoresConfig


@dataclass(kw_only=True)
class DataConfig:
    """Tokenized data: a folder of `.bin/.idx` pairs with a `manifest.json`, and the tokenizer they were made with."""

    path: str
    """Folder of the tokenized sources and their manifest."""
    tokenizer: str
    """Folder of a Hugging Face tokenizer; its hash must equal the manifest's."""
    loader: Literal["torch", "dali"] = "torch"
    """Batch loader; both give the same samples in the same order."""
    num_workers: int = 1
    """Background reader threads (dali) or processes (torch) a rank; 0 reads in the training process."""
    intra_document_attention: bool = True
    """Keep attention and positions inside documents that share a sequence."""

    def __post_init__(self) -> None:
        require_at_least(0, "data", num_workers=self.num_workers)


@dataclass(kw_only=True)
class EvaluationConfig:
    """Evaluation inside the training loop: loss on held-out sequences, and scores of benchmarks."""

    every_tokens: int | None = None
    """Consumed tokens between evaluations; null evaluates at the end of each stage only."""
    sequences: int = 32
    """Held-out sequences read per source; 0 switches evaluation off."""
    scores: TaskScoresConfig | None = None
    """Benchmarks answered by the weights of the moment."""

    def __post_init__(self) -> None:
        require_at_least(0, "evaluation", sequences=self.sequences)
        require_at_least(1, "evaluation", every_tokens=self.every_tokens)


def split_record_count(key: str, path: str) -> tuple[str, int | None]:
    """`FILE#1000` -> (FILE, 1000), `FILE` -> (FILE, None). Raises ConfigError for anything else after the mark."""
    file, mark, number = path.rpartition("#")
    if not mark:
        return path, None
    if not (number.isdigit() and int(number) > 0):
        raise ConfigError(key, path, "write a number of records behind '#': PATH#1000")
    return file, int(number)
