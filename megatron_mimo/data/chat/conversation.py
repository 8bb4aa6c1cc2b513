"""One record of chat data, in any of the forms that ms-swift accepts (record_forms.py), to a conversation.

A record with nothing but a `text` is plain text: learned as a whole, as in pre-training.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from megatron_mimo.data.chat.record_forms import BadRecord, Turn, is_plain_text, record_turns, text


@dataclass(frozen=True)
class Message:
    """One turn. `learned`: whether an assistant's turn counts in the loss."""

    role: str
    content: str
    learned: bool = True
    tool_calls: list[dict[str, Any]] = field(default_factory=list)

    def for_template(self) -> dict[str, Any]:
        """What chat templates expect of a message."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        return message | {"tool_calls": self.tool_calls} if self.tool_calls else message


@dataclass(frozen=True)
class Conversation:
    """Messages, or a plain text without any."""

    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    text: str | None = None

    @property
    def query(self) -> str:
        """Everything before the last answer: what `at most eight responses a query` counts by."""
        return "\n".join(f"{message.role}: {message.content}" for message in self.messages[:-1])

    @property
    def response(self) -> str:
        """The last message's content."""
        return self.messages[-1].content if self.messages else ""


def read_conversation(record: Any) -> Conversation:
    """Raises BadRecord for unknown forms and roles, texts that are none, and conversations without an answer."""
    if not isinstance(record, dict):
        raise BadRecord("not a JSON object")
    if is_plain_text(record):
        return Conversation(text=text(record["text"], "text"))
    messages: list[Message] = []
    for turn in record_turns(record):
        _append(messages, _message(turn))
    if not any(message.role == "assistant" for message in messages):
        raise BadRecord("no assistant turn to learn from")
    while messages[-1].role == "tool":  # nothing behind it is learned
        messages.pop()
    if messages[-1].role != "assistant":
        raise BadRecord(f"the last turn is the {messages[-1].role}'s: nothing answers it")
    return Conversation(messages, _tools(record.get("tools")))


def _message(turn: Turn) -> Message:
    role, content = turn["role"], turn["content"]
    if role == "tool_call":
        call = _json(content, "tool_call") if isinstance(content, str) else content
        return Message("assistant", "", _learned(turn), [_tool_call(call)])
    calls = [_tool_call(call) for call in turn.get("tool_calls") or []]
    content = "" if content is None and calls else text(content, role)
    return Message(role, content, _learned(turn), calls)


def _append(messages: list[Message], message: Message) -> None:
    """Add a message; what an assistant says in several goes is one turn, as chat templates want it."""
    if message.role != "assistant" or not messages or messages[-1].role != "assistant":
        messages.append(message)
        return
    last = messages.pop()
    # Of a run of tool calls the first says whether it is learned, as in ms-swift.
    if message.content and message.learned != last.learned:
        raise BadRecord("assistant messages behind each other are one turn, and differ in loss")
    if message.content and last.tool_calls:
        raise BadRecord("an assistant's text follows its tool call without a tool's answer")
    messages.append(
        Message("assistant", last.content + message.content, last.learned, [*last.tool_calls, *message.tool_calls])
    )


def _learned(turn: Turn) -> bool:
    scale = turn.get("loss_scale")
    if scale not in (None, 0, 1):
        raise BadRecord(f"loss_scale {scale}: a turn is learned (1) or not (0)")
    return turn.get("loss") is not False and scale != 0


def _tool_call(call: Any) -> dict[str, Any]:
    """OpenAI's form, with the arguments as JSON and not as its text: templates write them themselves."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRecord("a tool call without a name")
    arguments = function.get("arguments", {})
    arguments = _json(arguments, "a tool call's arguments") if isinstance(arguments, str) else arguments
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _tools(tools: Any) -> list[dict[str, Any]] | None:
    return _json(tools, "tools") if isinstance(tools, str) else tools


def _json(content: str, name: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise BadRecord(f"{name} is not JSON: {error}") from error
