"""What decides the prompt of a base model: examples, their number and order, cues, and how an answer is graded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from megatron_mimo.eval.protocol import EvalTask

Record = dict[str, Any]
SHOTS_SEED = 1234
"""lm-evaluation-harness' seed for the examples that it draws."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One record in the words of a prompt."""

    question: str
    """With the cue that the answer follows."""
    answer: str = ""
    """As it stands in an example."""
    choices: tuple[str, ...] = ()
    """Continuations to compare; none where the model writes."""
    contexts: tuple[str, ...] = ()
    """In place of the question where each choice changes it (WinoGrande); one continuation follows all of them."""
    gold: tuple[int, ...] = ()
    """Places of the right choices."""
    group: str = ""
    golden: str = ""
    """What a right model writes, where that is not the example's answer."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One row of the base models' table."""

    name: str
    row: str
    """Name in the report; empty where the report has no such row."""
    files: tuple[str, ...]
    read: Callable[[Record], Item | None]
    num_shots: int
    """As the report states."""
    shots: Literal["first", "random", "others", "fixed", "none"] = "random"
    """`first`: of the examples' split (of the question's subject). `random`: drawn anew for every question, as
    lm-evaluation-harness does. `others`: the first other records of the tested file, where the data has no split for
    examples. `fixed`: texts that come with the data (BBH)."""
    shots_split: str = "train"
    shots_files: tuple[str, ...] = ()
    """Where the examples are another benchmark's."""
    split: str = "test"
    description: Callable[[Record], str] = field(default=lambda record: "")
    delimiter: str = " "
    """Between a question and its answer."""
    separator: str = "\n\n"
    """After an example."""
    is_normalised: bool = False
    """Choices are compared by log-likelihood per character."""
    stop: tuple[str, ...] = ("\n\n",)
    max_tokens: int = 512
    inner: Callable[[], EvalTask] | None = None
    """The task that reads and grades what the model writes."""
    in_its_form: Callable[[str, Record], str] = field(default=lambda text, record: text)
    """The model's text as an answer that the inner task reads."""
    source: str = ""
    """Whose prompt it is: `lm-evaluation-harness` (byte for byte, tested) or `ours`."""


def render(form: Form, record: Record, examples: Sequence[Record]) -> str:
    """The prompt up to and without the question: description and examples."""
    parts = [form.description(record)]
    for example in examples:
        item = form.read(example)
        assert item is not None
        question = item.contexts[item.gold[0]] if item.contexts else item.question
        parts.append(f"{question}{form.delimiter}{item.answer}{form.separator}")
    return "".join(parts)
