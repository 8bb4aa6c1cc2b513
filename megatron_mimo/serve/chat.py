"""Chat in the terminal, tokens as they come: with a running OpenAI-compatible server, or a model served for the while.

megatron-mimo chat MODEL_DIR                     serve the model, chat, stop it
megatron-mimo chat --url http://127.0.0.1:8000   chat with a running server
"""

import argparse
import json
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from megatron_mimo.config import UserError
from megatron_mimo.platform.network import free_port
from megatron_mimo.serve.openai_server import running_server

DIM, PLAIN = "\033[2m", "\033[0m"
HELP = "/clear forgets the conversation, /quit or Ctrl-D ends"
READ_SECONDS = 600


def main() -> int:
    """Run the chat; returns the exit code."""
    options = parse(sys.argv[1:])
    try:
        with _server(options) as url:
            settings = {"max_tokens": options.max_tokens, "temperature": options.temperature}
            converse(url, find_model(url), options.system, settings, sys.stdin, sys.stdout)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print()
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """This command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("model", type=Path, nargs="?", help="folder of an exported model")
    source.add_argument("--url", help="a running server instead")
    parser.add_argument("--system", default="", help="system prompt (default: empty)")
    parser.add_argument("--max-tokens", type=int, default=512, help="longest answer")
    parser.add_argument("--temperature", type=float, default=0.6)
    return parser.parse_args(arguments)


def converse(url: str, model: str, system: str, settings: dict[str, Any], source: TextIO, sink: TextIO) -> None:
    """Read one message a line from `source` until its end, and write the answers to `sink` token by token."""
    start = [{"role": "system", "content": system}] if system else []
    messages = list(start)
    print(f"{model} at {url}; {HELP}", file=sink)
    while (line := _ask(source, sink)) not in (None, "/quit"):
        if line == "/clear":
            messages = list(start)
        elif line:
            messages.append({"role": "user", "content": line})
            parts = stream_chat(url, {"model": model, "messages": messages, **settings})
            messages.append({"role": "assistant", "content": show(parts, sink)})


def show(parts: Iterable[tuple[str, str]], sink: TextIO) -> str:
    """Write the parts as they come, reasoning dimmed on a terminal; returns the answer without the reasoning."""
    dim, plain = (DIM, PLAIN) if sink.isatty() else ("", "")
    answer = ""
    for kind, text in parts:
        sink.write(f"{dim}{text}{plain}" if kind == "reasoning" else text)
        sink.flush()
        answer += text if kind == "content" else ""
    print(file=sink)
    return answer


def stream_chat(url: str, request: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """("reasoning" or "content", text) as the server's `/v1/chat/completions` sends them (server-sent events)."""
    with _open(f"{url}/v1/chat/completions", {**request, "stream": True}) as response:
        for line in response:
            data = line.decode().removeprefix("data:").strip()
            if line.startswith(b"data:") and data != "[DONE]":
                yield from _parts(json.loads(data))


def find_model(url: str) -> str:
    """The name of the first model that the server at `url` lists."""
    with _open(f"{url}/v1/models") as response:
        return json.load(response)["data"][0]["id"]


def _parts(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """SGLang and older vLLM call reasoning `reasoning_content`."""
    if "error" in event:
        raise UserError(f"the server reports: {event['error']}")
    for choice in event.get("choices", []):
        delta = choice["delta"]
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")
        if reasoning:
            yield "reasoning", reasoning
        if delta.get("content"):
            yield "content", delta["content"]


def _open(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request, timeout=READ_SECONDS)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url} refused the request ({error.code}): {error.read().decode()}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"no server answers at {url} ({error}): start one with `megatron-mimo serve`") from error


def _ask(source: TextIO, sink: TextIO) -> str | None:
    """One line without its end; None at the end of `source`."""
    sink.write("> ")
    sink.flush()
    line = source.readline()
    return line.strip() if line else None


def _server(options: argparse.Namespace) -> AbstractContextManager[str]:
    if options.url:
        return nullcontext(options.url.rstrip("/").removesuffix("/v1"))
    log_path = Path(tempfile.mkdtemp(prefix="chat_")) / "vllm.log"
    print(f"starting vLLM on {options.model} (log: {log_path})", flush=True)
    return running_server(options.model, "127.0.0.1", free_port(), [], log_path)


if __name__ == "__main__":
    sys.exit(main())
