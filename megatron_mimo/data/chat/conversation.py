"""One record of chat data, in any of the forms that ms-swift accepts, to a list of messages.

| form | keys |
|---|---|
| messages | `messages: [{role, content, loss?}, ...]`, `tools?`; ShareGPT's `conversations: [{from, value}, ...]` |
| pairs | `conversation: [{human, assistant}, ...]`, `system?` |
| alpaca | `instruction`, `input?`, `output`, `system?` |
| query and response | `query`, `response`, `history?: [[query, response], ...]`, `system?` |
| plain text | `text`: learned as a whole, as in pre-training |
"""

import json
from dataclasses import dataclass, field
from typing import Any

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
    "tool_response": "tool",
    "observation": "tool",
    "tool_call": "tool_call",
    "function_call": "tool_call",
}


class BadRecord(ValueError):
    """A record that is no conversation; the message says what is missing."""


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
    if "text" in record and "messages" not in record:
        return Conversation(text=_text(record["text"], "text"))
    messages = _merge_tool_calls(_messages(record))
    if not any(message.role == "assistant" for message in messages):
        raise BadRecord("no assistant turn to learn from")
    if messages[-1].role != "assistant":
        raise BadRecord(f"the last turn is the {messages[-1].role}'s: nothing answers it")
    return Conversation(messages, _tools(record.get("tools")))


def _messages(record: dict[str, Any]) -> list[Message]:
    turns = record.get("messages", record.get("conversations"))
    if turns is not None:
        return [_message(turn) for turn in _list(turns, "messages")]
    system = [("system", record["system"])] if record.get("system") else []
    if "conversation" in record:
        pairs = [(turn.get("human"), turn.get("assistant")) for turn in _list(record["conversation"], "conversation")]
    elif "output" in record and "instruction" in record:
        asked = [part for part in (record["instruction"], record.get("input")) if part]
        pairs = [("\n".join(_text(part, "instruction") for part in asked), record["output"])]
    elif "response" in record and "query" in record:
        pairs = [*(record.get("history") or []), (record["query"], record["response"])]
    else:
        raise BadRecord(f"neither messages nor another known form; its keys are {', '.join(sorted(record)) or 'none'}")
    both = [turn for query, answer in pairs for turn in (("user", query), ("assistant", answer))]
    return [Message(role, _text(content, role)) for role, content in system + both]


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise BadRecord("a message is not a JSON object")
    role = ROLES.get(str(turn.get("role", turn.get("from"))))
    if role is None:
        raise BadRecord(f"unknown role {turn.get('role', turn.get('from'))!r}; known: {', '.join(ROLES)}")
    content = turn.get("content", turn.get("value"))
    calls = turn.get("tool_calls") or []
    content = "" if content is None and calls else _text(content, role)
    return Message(role, content, learned=turn.get("loss") is not False, tool_calls=calls)


def _merge_tool_calls(messages: list[Message]) -> list[Message]:
    """Turns of the role `tool_call` become calls of one assistant message, as chat templates want them."""
    merged: list[Message] = []
    for message in messages:
        if message.role != "tool_call":
            merged.append(message)
            continue
        call = {"type": "function", "function": _json(message.content, "tool_call")}
        if merged and merged[-1].role == "assistant":
            last = merged.pop()
            merged.append(Message("assistant", last.content, last.learned, [*last.tool_calls, call]))
        else:
            merged.append(Message("assistant", "", message.learned, [call]))
    return merged


def _tools(tools: Any) -> list[dict[str, Any]] | None:
    return _json(tools, "tools") if isinstance(tools, str) else tools


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRecord(f"{name} is not JSON: {error}") from error


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise BadRecord(f"{name} is not a list with turns in it")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRecord(f"the {name} content is {type(value).__name__}, not text")
    return value
