"""What a turn says beside its words: whether it is learned, and what the answer was thought out in.

Training tools name the same things differently. What is not understood is refused, never ignored: a turn that should
not be learned and is, or an answer without its thoughts, makes another model without a word.
"""

import re
from typing import Any

from megatron_mimo.data.chat.record_forms import LOSS_SETTINGS, REASONING, BadRecord, Turn, text

SETTINGS_OF_LOSS = re.compile(r"loss|weight|train|mask|learn", re.IGNORECASE)
"""Names that sound like settings of the loss."""
WORDS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def is_learned(turn: Turn, role: str) -> bool | None:
    """Whether the turn, or a whole record, is marked as learned; None where nothing is said.

    Raises BadRecord for other values than yes and no, for settings that disagree, and for unknown ones of a turn.
    """
    unknown = [name for name in turn if SETTINGS_OF_LOSS.search(name) and name not in LOSS_SETTINGS]
    if unknown and role != "record":
        raise BadRecord(f"unknown setting of a turn {unknown[0]!r}; known: {', '.join(LOSS_SETTINGS)}")
    said = {name: _yes_or_no(name, turn[name]) for name in LOSS_SETTINGS if turn.get(name) is not None}
    if len(set(said.values())) > 1:
        raise BadRecord(f"settings of the loss that disagree: {', '.join(f'{key}={turn[key]}' for key in said)}")
    return next(iter(said.values()), None)


def thoughts_of(turn: Turn, role: str) -> str:
    """The think block that begins the answer; empty where the turn brings no reasoning beside its content.

    Raises BadRecord for reasoning of others than the assistant, and for two texts of it that differ.
    """
    texts = [text(turn[name], name).strip("\n") for name in REASONING if turn.get(name)]
    if not any(texts):
        return ""
    if role not in ("assistant", "tool_call"):
        raise BadRecord(f"a {role} turn with reasoning")
    if any(other != texts[0] for other in texts):
        raise BadRecord("two texts of reasoning that differ")
    return f"<think>\n{texts[0]}\n</think>\n\n"


def _yes_or_no(name: str, value: Any) -> bool:
    answer = WORDS.get(str(value).strip().lower())
    if answer is None:
        raise BadRecord(f"{name} {value}: a turn is learned (1) or not (0)")
    return answer
