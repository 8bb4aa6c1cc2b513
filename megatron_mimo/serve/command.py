"""Serve an exported model with vLLM, drafting with its MTP layers: an OpenAI-compatible server on one port.

megatron-mimo serve MODEL_DIR                 serve until Ctrl-C
megatron-mimo serve MODEL_DIR --check         start, complete one prompt, stop
megatron-mimo serve MODEL_DIR -- --api-key k  hand further options to vLLM
"""

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.serve.chat_client import ChatForm, CompletionForm

QUESTION, PROMPT = "What is 47+38?", "Question: 47+38=?"


def main() -> int:
    """Run the server; returns the exit code."""
    options, extra = parse(sys.argv[1:])
    for name in (signal.SIGTERM, signal.SIGHUP):  # the server must not outlive this process
        signal.signal(name, signal.default_int_handler)
    try:
        serve(options, extra)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped")
    return 0


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This command's options, and what follows `--` for vLLM."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of an exported model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--num-speculative-tokens", "--num-drafts", dest="num_drafts", type=int, metavar="TOKENS",
        help="tokens drafted per step (default: one for each MTP layer; 0: none)",
    )  # fmt: skip
    parser.add_argument(
        "--reasoning-parser",
        default="auto",
        help="vLLM's parser for <think> blocks, or none (default: mimo for models that think)",
    )
    parser.add_argument(
        "--tool-call-parser",
        default="auto",
        help="vLLM's parser for tool calls, or none (default: hermes where the chat template writes them)",
    )
    parser.add_argument(
        "--start-timeout", type=float, metavar="SECONDS", help="give a start up after this long (default: never)"
    )
    parser.add_argument("--log", type=Path, help="file for the server's output (default: a temporary file)")
    parser.add_argument(
        "--prompt",
        help="what --check and the curl line ask: a question for a chat model, a text to continue for a base model",
    )
    parser.add_argument(
        "--max-new-tokens", "--max-tokens", dest="max_tokens", type=int, default=128, metavar="TOKENS",
        help="longest answer of --check",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="ask one line, print the answer and stop")
    return parser.parse_args(arguments[:end]), arguments[end + 1 :]


def serve(options: argparse.Namespace, extra: list[str]) -> None:
    """Hold the server up until it is interrupted, or ask it once; raises UserError where it cannot start."""
    # Imported late: torch takes seconds, which --help does not need.
    from megatron_mimo.convert.huggingface import is_chat_model
    from megatron_mimo.serve.openai_server import curl_line, post, running_server, served_name
    from megatron_mimo.serve.speculative import mtp_speculative_config

    draft = mtp_speculative_config(options.model, options.num_drafts)
    log_path = options.log or Path(tempfile.mkdtemp(prefix="serve_")) / "vllm.log"
    print(f"starting vLLM on {options.model}, speculation: {draft or 'none'} (log: {log_path})", flush=True)
    form = ChatForm() if is_chat_model(options.model) else CompletionForm()
    line = options.prompt or (QUESTION if isinstance(form, ChatForm) else PROMPT)
    settings = {"model": served_name(options.model), "max_tokens": options.max_tokens, "temperature": 0}
    request = form.body(line) | settings
    with running_server(
        options.model, options.host, options.port, extra, log_path, options.num_drafts, options.reasoning_parser,
        options.tool_call_parser, options.start_timeout,
    ) as url:  # fmt: skip
        print(f"ready: {url}/v1\n{curl_line(url + form.path, request)}", flush=True)
        if not options.check:
            threading.Event().wait()
        answer = post(url + form.path, request)
        print(f"{line}\n{_text(answer['choices'][0])}\nusage: {answer['usage']}")


def _text(choice: dict[str, Any]) -> str:
    """What a completion or a chat's turn says, reasoning first."""
    message = choice.get("message") or {"content": choice.get("text")}
    return "".join(filter(None, (message.get("reasoning"), message.get("content"))))


if __name__ == "__main__":
    sys.exit(main())
