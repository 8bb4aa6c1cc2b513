"""What an executor reports of a task."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StepOutcome:
    """One attempt at one task."""

    index: int
    result: Literal["done", "failed", "crashed", "died", "stopped"]
    """`failed` raised an exception; `crashed` ended its process itself (a segmentation fault), `died` lost it to others
    (killed); `stopped` raised a UserError: trying again is no use."""
    error: str = ""
