"""The forms of chat records that ms-swift (4.6) documents, each to a list of plain turns.

| form | fields |
|---|---|
| messages | `messages`, `conversation`, `conversations`: `[{role, content}, ...]` or `[{from, value}]`, `system?` |
| pairs | the same fields: `[{human, assistant}, ...]`, `system?` |
| provider's messages | OpenAI's `tool_calls`, Anthropic's content blocks `text`, `tool_use` and `tool_result` |
| alpaca | `instruction`, `input`, `output`, `system?` |
| query and response | `query`, `response`, `history?: [[query, response], ...]`, `system?`; other names below |

A turn is `{role, content, ...}` with one of the roles system, user, assistant, tool, tool_call.
"""

from collections.abc import Iterator
from typing import Any

from megatron_mimo.data.chat.system_prompt import system_message

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "observation": "tool",
    "observations": "tool",
    "tool_call": "tool_call",
    "function_call": "tool_call",
}
MESSAGES = ("messages", "conversation", "conversations")
SYSTEM = ("system", "system_prompt")
QUERY = ("query", "prompt", "input", "instruction", "question", "problem")
RESPONSE = (
    "response", "answer", "output", "targets", "target", "answer_key", "answers", "solution", "text", "completion",
    "content",
)  # fmt: skip
MEDIA = ("images", "image", "videos", "video", "audios", "audio")

Turn = dict[str, Any]


class BadRecord(ValueError):
    """A record that is no conversation; the message says what is missing."""


def record_turns(record: dict[str, Any]) -> list[Turn]:
    """The turns of a record in any form; raises BadRecord for unknown forms and roles, and for images and sounds."""
    media = next((name for name in MEDIA if record.get(name)), None)
    if media:
        raise BadRecord(f"it has {media}; the model reads text alone")
    prompts = [record[name] for name in SYSTEM if record.get(name) is not None]
    system: list[Turn] = [*system_message(next(filter(None, prompts), prompts[0] if prompts else None))]
    name = next((name for name in MESSAGES if record.get(name) is not None), None)
    if name is None:
        return system + list(_pairs(_query_and_response(record)))
    turns = [turn for one in _list(record[name], name) for turn in _message_turns(one)]
    return turns if turns and turns[0]["role"] == "system" else system + turns


def is_plain_text(record: dict[str, Any]) -> bool:
    """Whether `text` is all there is: beside a query it is the response."""
    return "text" in record and not any(record.get(name) is not None for name in (*MESSAGES, *QUERY))


def _query_and_response(record: dict[str, Any]) -> list[tuple[Any, Any]]:
    response = next((record[name] for name in RESPONSE if record.get(name) is not None), None)
    query = next((record[name] for name in QUERY if record.get(name) is not None), None)
    if record.get("instruction") is not None and record.get("input") is not None:
        query = "\n".join(text(part, "instruction") for part in (record["instruction"], record["input"]) if part)
        response = record.get("output", response)
    if query is None or response is None:
        fields = ", ".join(sorted(map(str, record))) or "none"
        raise BadRecord(f"neither messages nor a query with a response; its fields are {fields}")
    history = record.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise BadRecord("history is not a list of [query, response]")
    return [*map(tuple, history), (query, response[0] if isinstance(response, list) and response else response)]


def _pairs(pairs: list[tuple[Any, Any]]) -> Iterator[Turn]:
    for query, response in pairs:
        yield {"role": "user", "content": query}
        yield {"role": "assistant", "content": response}


def _message_turns(message: Any) -> list[Turn]:
    """One message, a pair, or a message of content blocks."""
    if not isinstance(message, dict):
        raise BadRecord("a message is not a JSON object")
    if "role" not in message and "from" not in message:
        pair = [{ROLES[name]: value for name, value in message.items() if name in ROLES}]
        return list(_pairs([(turn.get("user"), turn.get("assistant")) for turn in pair]))
    named = message.get("role", message.get("from"))
    role = ROLES.get(str(named).replace("-", "_"))
    if role is None:
        raise BadRecord(f"unknown role {named!r}; known: {', '.join(ROLES)}")
    turn = {**message, "role": role, "content": message.get("content", message.get("value"))}
    if not isinstance(turn["content"], list):
        return [turn]
    turns: list[Turn] = []
    for one in (_block_turn(turn, block) for block in turn["content"]):
        if turns and one["role"] == turns[-1]["role"] == role:
            one = {**one, "content": turns.pop()["content"] + one["content"]}
        turns.append(one)
    # OpenAI writes the calls beside the blocks.
    return [*turns, {**turn, "content": None}] if turn.get("tool_calls") else turns


def _block_turn(turn: Turn, block: Any) -> Turn:
    """A content block as a turn of its own."""
    kind = block.get("type") if isinstance(block, dict) else type(block).__name__
    if kind == "text":
        return {**turn, "content": text(block.get("text"), turn["role"]), "tool_calls": None}
    if kind == "tool_use":
        call = {"name": block.get("name"), "arguments": block.get("input", {})}
        return {**turn, "role": "tool_call", "content": call, "tool_calls": None}
    if kind == "tool_result":
        inner = block.get("content", "")
        parts = [_block_turn(turn, part)["content"] for part in inner] if isinstance(inner, list) else [inner]
        return {**turn, "role": "tool", "content": "".join(text(part, "tool_result") for part in parts)}
    raise BadRecord(f"a content block of type {kind!r}; the model reads text and tool calls alone")


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise BadRecord(f"{name} is not a list with turns in it")
    return value


def text(value: Any, name: str) -> str:
    """The value, which must be a text; raises BadRecord naming what it should have been."""
    if not isinstance(value, str):
        raise BadRecord(f"the {name} content is {type(value).__name__}, not text")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadRecord(f"the {name} content is no Unicode text: half of a surrogate pair")
    return value
