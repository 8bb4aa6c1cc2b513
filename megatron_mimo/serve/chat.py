"""Chat in the terminal, tokens as they come: with a running OpenAI-compatible server, or a model served for the while.

megatron-mimo chat MODEL_DIR                     serve the model, chat, stop it
megatron-mimo chat --url http://127.0.0.1:8000   chat with a running server

Arrow keys edit the line and recall earlier ones. Ctrl-C stops an answer; at an empty prompt it ends the chat.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from megatron_mimo.config import UserError
from megatron_mimo.platform.network import free_port
from megatron_mimo.serve.chat_client import ChatForm, CompletionForm, Form, ServedModel, find_model, stream
from megatron_mimo.serve.chat_lines import Lines, open_lines

DIM, PLAIN = "\033[2m", "\033[0m"
HELP = "/clear forgets the conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer"
BASE_MODEL = """This is a base model: it continues text, and has not been trained to answer in a conversation.
Each line is completed on its own, from its line break on; end a line with \\ to continue it."""
UNKNOWN_MODEL = "Whether this model has learned to chat cannot be seen from here; a base model needs --form completion."
NO_TEMPLATE = "(a model without a chat template is a base model: start again with --form completion)"
KEPT = "(this line is left out of the conversation, which continues; /clear empties it)"


@dataclass
class Answer:
    """What has come so far."""

    content: str = ""
    """Without the reasoning."""
    end: str = ""
    """The server's reason to stop; empty while it has not."""


def main() -> int:
    """Run the chat; returns the exit code."""
    options = parse(sys.argv[1:])
    for name in (signal.SIGTERM, signal.SIGHUP):  # the server must not outlive this process
        signal.signal(name, signal.default_int_handler)
    try:
        with _server(options) as url:
            model = find_model(url)
            form = choose_form(options.form, options.model or model.folder, options.system)
            print(f"{model.name} at {url}; {HELP}", flush=True)
            converse(url, form, _settings(options, model), open_lines(), sys.stdout)
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
    parser.add_argument(
        "--form",
        choices=("auto", "chat", "completion"),
        default="auto",
        help="conversation in the chat template, or text to continue (default: what the model was trained for)",
    )
    parser.add_argument("--system", default="", help="system prompt (default: empty)")
    parser.add_argument(
        "--max-new-tokens", "--max-tokens", dest="max_tokens", type=int, metavar="TOKENS",
        help="longest answer (default: up to the end of the context)",
    )  # fmt: skip
    parser.add_argument("--temperature", type=float, default=0.6)
    return parser.parse_args(arguments)


def choose_form(asked: Literal["auto", "chat", "completion"], folder: Path | None, system: str) -> Form:
    """The form in which the model in `folder`, where it is known, is asked; says what is not plain chat.

    Raises UserError for a system prompt that a completion has no place for.
    """
    # Imported late, here and below: torch takes seconds, which --help does not need.
    from megatron_mimo.convert.huggingface import is_chat_model

    chats = asked == "chat" or (asked == "auto" and (folder is None or is_chat_model(folder)))
    if chats and asked == "auto" and folder is None:
        print(UNKNOWN_MODEL)
    if not chats and system:
        raise UserError("--system: a base model has no system prompt; write the text into the line that it completes")
    if not chats:
        print(BASE_MODEL)
    return ChatForm(system) if chats else CompletionForm()


def converse(url: str, form: Form, settings: dict[str, Any], lines: Lines, sink: TextIO) -> None:
    """Answer line after line, to their end; what goes wrong with one of them is said, and the next one is read."""
    while (line := lines.read()) not in (None, "/quit"):
        if line == "/clear":
            form.clear()
        elif line:
            _answer(url, form, settings, line, sink)


def show(parts: Iterable[tuple[str, str]], answer: Answer, sink: TextIO) -> None:
    """Write the parts as they come, reasoning dimmed on a terminal, and collect them in `answer`."""
    dim, plain = (DIM, PLAIN) if sink.isatty() else ("", "")
    for kind, text in parts:
        if kind == "end":
            answer.end = text
            continue
        # Collected first: whatever has been shown when Ctrl-C comes is part of the conversation.
        answer.content += text if kind == "content" else ""
        sink.write(f"{dim}{text}{plain}" if kind == "reasoning" else text)
        sink.flush()


def _answer(url: str, form: Form, settings: dict[str, Any], line: str, sink: TextIO) -> None:
    """One line and its answer; a refused one leaves the conversation as it was, a stopped one keeps what has come."""
    answer, note = Answer(), ""
    try:
        with closing(stream(url + form.path, form.body(line) | settings)) as parts:
            show(parts, answer, sink)
    except KeyboardInterrupt:
        note = "(stopped)"
    except UserError as error:
        answer.content, note = "", f"{error}\n{_advice(str(error))}"
    if answer.end == "length":
        note = "(cut off: --max-new-tokens, or the end of the model's context; /clear makes room)"
    print(f"\n{note}" if note else "", file=sink, flush=True)
    if answer.content:
        form.keep(line, answer.content)


def _advice(fault: str) -> str:
    return NO_TEMPLATE if "chat template" in fault else KEPT


def _settings(options: argparse.Namespace, model: ServedModel) -> dict[str, Any]:
    """What every request says."""
    limit = {} if options.max_tokens is None else {"max_tokens": options.max_tokens}
    return {"model": model.name, "temperature": options.temperature} | limit


def _server(options: argparse.Namespace) -> AbstractContextManager[str]:
    if options.url:
        return nullcontext(options.url.rstrip("/").removesuffix("/v1"))
    from megatron_mimo.serve.openai_server import running_server

    log_path = Path(tempfile.mkdtemp(prefix="chat_")) / "vllm.log"
    print(f"starting vLLM on {options.model} (log: {log_path})", flush=True)
    return running_server(options.model, "127.0.0.1", free_port(), [], log_path)


if __name__ == "__main__":
    sys.exit(main())
