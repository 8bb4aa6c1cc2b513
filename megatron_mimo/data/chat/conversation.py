"""One record of chat data, in any of the forms that record_forms.py lists, to a conversation.

A record with nothing but a `text` is plain text: learned as a whole, as in pre-training.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from megatron_mimo.data.chat.record_forms import BadRecord, Turn, is_plain_text, record_turns, text
from megatron_mimo.data.chat.turn_settings import is_learned, thoughts_of


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

    def with_system(self, prompt: str | None) -> "Conversation":
        """With this system message where it has none of its own; plain texts and None stay as they are."""
        if prompt is None or not self.lacks_system:
            return self
        return replace(self, messages=[Message("system", prompt), *self.messages])

    @property
    def lacks_system(self) -> bool:
        """Whether it is one of messages that does not begin with a system message, an empty one included."""
        return bool(self.messages) and self.messages[0].role != "system"

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
    if is_learned(record, "record") is False:
        raise BadRecord("it is marked as not to be learned")
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
    return Conversation(messages, _tools(record))


def _message(turn: Turn) -> Message:
    role, content = turn["role"], turn["content"]
    learned, thoughts = is_learned(turn, role), thoughts_of(turn, role)
    if role == "tool_call":
        calls = _tool_calls(_json(content, "tool_call") if isinstance(content, str) else content)
        return Message("assistant", thoughts, learned is not False, calls)
    if role != "assistant" and learned:
        raise BadRecord(f"a {role} turn is marked as to be learned; the assistant's turns alone are")
    calls = [_tool_call(call) for call in turn.get("tool_calls") or []]
    content = "" if content is None and (calls or thoughts) else text(content, role)
    if thoughts and "<think>" in content:
        raise BadRecord("its reasoning stands beside the content and in it")
    return Message(role, thoughts + content, learned is not False, calls)


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


def _tool_calls(calls: Any) -> list[dict[str, Any]]:
    """One call, or several at once."""
    return [_tool_call(call) for call in calls] if isinstance(calls, list) else [_tool_call(calls)]


def _tool_call(call: Any) -> dict[str, Any]:
    """OpenAI's form, with the arguments as JSON and not as its text: templates write them themselves."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRecord("a tool call without a name")
    arguments = function.get("arguments", {})
    arguments = _json(arguments, "a tool call's arguments") if isinstance(arguments, str) else arguments
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _tools(record: dict[str, Any]) -> list[dict[str, Any]] | None:
    """`tools`, or what OpenAI called `functions` before, as JSON or as its text."""
    name = "tools" if record.get("tools") else "functions"
    tools = record.get(name)
    if isinstance(tools, str):
        tools = _json(tools, name) if tools.strip() else None
    if not tools:
        return None
    if not isinstance(tools, list):
        raise BadRecord(f"{name} that are no list")
    return [{"type": "function", "function": tool} for tool in tools] if name == "functions" else tools


def _json(content: str, name: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise BadRecord(f"{name} is not JSON: {error}") from error
