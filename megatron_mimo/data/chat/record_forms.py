"""The forms of chat records that training tools document (table in docs/sft.md), each to a list of plain turns.

| form | fields |
|---|---|
| messages | `messages`, `conversation`, `conversations`: `[{role, content}, ...]` or `[{from, value}]`, `system?` |
| pairs | the same fields: `[{human, assistant}, ...]`, `system?` |
| provider's messages | OpenAI's `tool_calls`; Anthropic's blocks `text`, `thinking`, `tool_use`, `tool_result` |
| alpaca | `instruction`, `input`, `output`, `system?`, `history?` |
| query and response | `query`, `response`, `history?: [[query, response], ...]`, `system?`; other names below |
| prompt and completion | the same with lists of messages: `prompt: [{role, content}, ...]`, `completion: [...]` |

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
    "chatgpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
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
REASONING = ("reasoning_content", "reasoning", "thinking")
"""What an answer was thought out in, beside its content."""
THOUGHT_BLOCKS = ("thinking", "reasoning")
"""Types of content blocks that hold it."""
LOSS_SETTINGS = ("loss", "loss_scale", "weight", "train", "step_loss_mask")
"""Whether a turn is learned: ms-swift's two, OpenAI's, axolotl's, slime's."""
TURN_FIELDS = frozenset(
    {
        *ROLES,
        "role",
        "from",
        "content",
        "value",
        "tool_calls",
        "function_call",
        "tool_call_id",
        *REASONING,
        *LOSS_SETTINGS,
    }
)
"""What is read of a turn. Tool answers follow their calls in order, so the calls' ids are not needed."""
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
    if name is not None:
        turns = _listed_turns(record[name], name)
    elif isinstance(record.get("prompt"), list):
        turns = _listed_turns(record["prompt"], "prompt") + _listed_turns(record.get("completion"), "completion")
    else:
        turns = list(_pairs(_query_and_response(record)))
        turns[-1] |= {key: record[key] for key in REASONING if record.get(key) is not None}
    if turns[0]["role"] != "system":
        return system + turns
    own = turns[0]["content"]
    if any(prompt != own for prompt in prompts if prompt and own):
        raise BadRecord("it has two system messages that differ")
    return turns if own or not system else system + turns[1:]


def ignored_fields(record: dict[str, Any]) -> list[str]:
    """Names of what a readable record has and nothing reads; those of turns as `messages[].NAME`."""
    name = next((name for name in MESSAGES if record.get(name) is not None), "prompt")
    turns = [turn for turn in record[name] if isinstance(turn, dict)] if isinstance(record.get(name), list) else []
    read = {*SYSTEM, "tools", "functions", *LOSS_SETTINGS}
    read |= (
        {name, *(["completion"] if name == "prompt" else [])} if turns else {*_read_pair(record), "history", *REASONING}
    )
    found = [key for key in record if key not in read and _holds_something(record[key])]
    inner = {key for turn in turns for key in turn if key not in TURN_FIELDS and _holds_something(turn[key])}
    return found + [f"{name}[].{key}" for key in sorted(inner)]


def is_plain_text(record: dict[str, Any]) -> bool:
    """Whether `text` is all there is: beside a query it is the response."""
    return "text" in record and not any(record.get(name) is not None for name in (*MESSAGES, *QUERY))


def _holds_something(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def _listed_turns(messages: Any, name: str) -> list[Turn]:
    return [turn for one in _list(messages, name) for turn in _message_turns(one)]


def _read_pair(record: dict[str, Any]) -> set[str]:
    """The fields that the query and the response are read from."""
    query = next((name for name in QUERY if record.get(name) is not None), "")
    response = next((name for name in RESPONSE if record.get(name) is not None), "")
    if record.get("instruction") is not None and record.get("input") is not None:
        return {"instruction", "input", "output" if record.get("output") is not None else response}
    return {query, response}


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
        return _pair_turns(message)
    named = message.get("role", message.get("from"))
    role = ROLES.get(str(named).replace("-", "_"))
    if role is None:
        raise BadRecord(f"unknown role {named!r}; known: {', '.join(ROLES)}")
    turn = {**message, "role": role, "content": message.get("content", message.get("value"))}
    if turn.get("function_call"):  # OpenAI's form before `tool_calls`
        turn["tool_calls"] = [*(turn.get("tool_calls") or []), turn["function_call"]]
    return _block_turns(turn) if isinstance(turn["content"], list) else [turn]


def _pair_turns(pair: dict[str, Any]) -> list[Turn]:
    """`{human, assistant}`; what else it says is of the assistant."""
    sides = {ROLES[name]: value for name, value in pair.items() if name in ROLES}
    if sides.keys() - {"user", "assistant"}:
        raise BadRecord(f"a pair of turns with {', '.join(sorted(sides.keys() - {'user', 'assistant'}))} in it")
    query, response = _pairs([(sides.get("user"), sides.get("assistant"))])
    return [query, response | {name: value for name, value in pair.items() if name not in ROLES}]


def _block_turns(turn: Turn) -> list[Turn]:
    """The content blocks of a message: texts side by side are one turn, calls and their answers turns of their own."""
    bare = {name: value for name, value in turn.items() if name not in REASONING}
    thoughts = {name: turn[name] for name in REASONING if turn.get(name)}
    turns: list[Turn] = []
    for block in turn["content"]:
        if isinstance(block, dict) and block.get("type") in THOUGHT_BLOCKS:
            thoughts |= {f"block {len(thoughts)}": block.get("thinking", block.get("text"))}
            continue
        one = _block_turn(bare, block)
        if turns and one["role"] == turns[-1]["role"] == turn["role"]:
            one = {**one, "content": turns.pop()["content"] + one["content"]}
        turns.append(one)
    if turn.get("tool_calls"):  # OpenAI writes the calls beside the blocks
        turns.append({**bare, "content": None})
    if not turns:
        raise BadRecord(f"the {turn['role']} content is a list without text")
    if thoughts:
        whole = "\n".join(text(thought, "reasoning") for thought in thoughts.values())
        turns[0] = {**turns[0], "reasoning_content": whole}
    return turns


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
