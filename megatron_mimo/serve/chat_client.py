"""One request to an OpenAI-compatible server, its answer as it comes; and the two forms in which a model is asked."""

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from megatron_mimo.config import UserError
from megatron_mimo.data.chat.system_prompt import system_message

READ_SECONDS = 600
THINKING = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
COMPLETION_MAX_TOKENS = 256
"""A server's own default is 16 tokens for completions, and all that the context has room for in chats."""


class Form(Protocol):
    """How a line becomes a request, and what is remembered of its answer."""

    path: str

    def body(self, line: str) -> dict[str, Any]:
        """The request for this line, without the settings that every request shares."""
        ...

    def keep(self, line: str, answer: str) -> None:
        """Remember the line and its answer for the next request."""
        ...

    def clear(self) -> None:
        """Forget all of it."""
        ...


class ChatForm:
    """Turns of a conversation, in the model's chat template."""

    path = "/v1/chat/completions"

    def __init__(self, system: str = "") -> None:
        self._start = system_message(system)
        self.clear()

    def body(self, line: str) -> dict[str, Any]:
        return {"messages": [*self._turns, _turn("user", line)]}

    def keep(self, line: str, answer: str) -> None:
        """The thinking is left out, as the templates of thinking models do."""
        self._turns += [_turn("user", line), _turn("assistant", THINKING.sub("", answer))]

    def clear(self) -> None:
        self._turns = list(self._start)


class CompletionForm:
    """Text that continues, for models that have not learned to chat; every line stands alone."""

    path = "/v1/completions"

    def body(self, line: str) -> dict[str, Any]:
        """The line with its line break, which a backslash at its end leaves out."""
        prompt = line.removesuffix("\\") if line.endswith("\\") else line + "\n"
        return {"prompt": prompt, "max_tokens": COMPLETION_MAX_TOKENS}

    def keep(self, line: str, answer: str) -> None:
        """Nothing: the next line stands alone."""

    def clear(self) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class ServedModel:
    """What a server says of its model."""

    name: str
    folder: Path | None
    """Where its files are, if that is on this machine."""


def stream(url: str, body: dict[str, Any]) -> Generator[tuple[str, str], None, None]:
    """("reasoning", "content" or "end", text) as the server sends them; the text of "end" is its finish reason.

    Closing the iterator, an exception in it included, closes the connection, and the server stops its work. Raises
    UserError where the server refuses, cannot be reached, or breaks off.
    """
    with _open(url, {**body, "stream": True}) as response:
        try:
            for line in response:
                data = line.decode().removeprefix("data:").strip()
                if line.startswith(b"data:") and data != "[DONE]":
                    yield from _parts(json.loads(data))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UserError(
                f"the server broke off in the middle of the answer ({error or type(error).__name__})"
            ) from error


def find_model(url: str) -> ServedModel:
    """The first model that the server at `url` lists."""
    with _open(f"{url}/v1/models") as response:
        try:
            model = json.load(response)["data"][0]
            folder = Path(str(model.get("root") or ""))
            return ServedModel(str(model["id"]), folder if (folder / "config.json").is_file() else None)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{url} does not list its models as an OpenAI-compatible server does") from error


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _parts(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """SGLang and older vLLM call reasoning `reasoning_content`."""
    if "error" in event:
        raise UserError(f"the server reports: {_message(event)}")
    for choice in event.get("choices", []):
        delta = choice.get("delta") or {}
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")
        content = delta.get("content") or choice.get("text")
        if reasoning:
            yield "reasoning", reasoning
        if content:
            yield "content", content
        if choice.get("finish_reason"):
            yield "end", choice["finish_reason"]


def _open(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=READ_SECONDS)
    except urllib.error.HTTPError as error:
        raise UserError(f"the server refused ({error.code}): {_refusal(error)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(f"no server answers at {url} ({error}): start one with `megatron-mimo serve`") from error


def _refusal(error: urllib.error.HTTPError) -> str:
    """The server's words: those in the JSON of OpenAI's, vLLM's or FastAPI's form, or the text as it is."""
    text = error.read().decode(errors="replace")
    try:
        return _message(json.loads(text))
    except ValueError:
        return text.strip()[:300] or error.reason


def _message(content: Any) -> str:
    while isinstance(content, dict):
        content = next((content[key] for key in ("error", "message", "detail") if key in content), json.dumps(content))
    return str(content)
