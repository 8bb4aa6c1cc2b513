"""vLLM's OpenAI-compatible server on an exported folder: start it, wait until it answers, ask it, stop it."""

import json
import shlex
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.convert.huggingface import chat_template
from megatron_mimo.serve.engine_settings import engine_settings, server_options
from megatron_mimo.serve.server_process import ServerProcess, server_process
from megatron_mimo.serve.speculative import (
    check_plugin_is_installed,
    is_recursive,
    read_model_config,
    vllm_environment,
)

SAID_EVERY_SECONDS = 60
"""A start that takes longer says that it continues, and how far it is."""
REASONING_PARSER = "mimo"
"""vLLM's parser that splits `<think>...</think>` off the answer; it needs no special tokens for the two marks."""
TOOL_CALL_PARSER = "hermes"
"""vLLM's parser of Qwen2.5's tool calls, JSON between `<tool_call>` and `</tool_call>`."""


def server_command(
    folder: Path, host: str, port: int, extra: list[str], num_drafts: int | None = None,
    reasoning_parser: str = "auto", tool_call_parser: str = "auto",
) -> list[str]:  # fmt: skip
    """The command line of the server. `vllm serve` is the same program, but fails in CPU builds of vLLM.

    `num_drafts`: tokens drafted per step, see `mtp_speculative_config`. `reasoning_parser`, `tool_call_parser`: vLLM's
    names, "none", or "auto" for models that think, and whose chat template writes tool calls. Raises UserError where
    several layers lack vLLM's plugin.
    """
    settings = engine_settings(folder, num_drafts)
    drafts = settings["speculative_config"]
    if drafts and drafts["num_speculative_tokens"] > 1 and not is_recursive(read_model_config(folder)):
        check_plugin_is_installed()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *server_options(settings)]
    command += ["--served-model-name", served_name(folder), "--host", host, "--port", str(port)]
    if reasoning_parser == "auto":
        reasoning_parser = REASONING_PARSER if thinks(folder) else "none"
    if reasoning_parser != "none":
        command += ["--reasoning-parser", reasoning_parser]
    if tool_call_parser == "auto":
        tool_call_parser = TOOL_CALL_PARSER if calls_tools(folder) and "--tool-call-parser" not in extra else "none"
    if tool_call_parser != "none":
        command += ["--enable-auto-tool-choice", "--tool-call-parser", tool_call_parser]
    return command + extra


def served_name(folder: Path) -> str:
    """The name by which requests ask for the model."""
    return read_model_config(folder).get("model_type", "model")


def thinks(folder: Path) -> bool:
    """Whether the model's answers begin with a think block: vLLM's parser calls an answer without it reasoning.

    config.json says so of models that were trained here. Of others the tokenizer's files may speak of `<think>`; those
    of Xiaomi's MiMo-7B do not, and it thinks all the same.
    """
    config = read_model_config(folder)
    if config.get("thinks") is not None:
        return bool(config["thinks"])
    names = ("tokenizer_config.json", "chat_template.jinja", "added_tokens.json")
    files = [folder / name for name in names]
    if any("<think>" in file.read_text(encoding="utf-8") for file in files if file.is_file()):
        return True
    is_foreign_mimo = config.get("model_type") == "mimo" and config.get("chat_trained") is None
    return is_foreign_mimo and bool(chat_template(folder))


def calls_tools(folder: Path) -> bool:
    """Whether the chat template writes tool calls as JSON between `<tool_call>` marks, as Qwen2.5's and Xiaomi's do."""
    template = chat_template(folder)
    return "<tool_call>" in template and "arguments" in template and "<function=" not in template


@contextmanager
def running_server(
    folder: Path, host: str, port: int, extra: list[str], log_path: Path, num_drafts: int | None = None,
    reasoning_parser: str = "auto", tool_call_parser: str = "auto", start_timeout: float | None = None,
) -> Iterator[str]:  # fmt: skip
    """Start the server, yield its URL once it is healthy, end it and all its processes after that.

    Settings as of `server_command`. Output goes to `log_path`. A server that lives may take its time to start, unless
    `start_timeout` sets a limit in seconds. Raises UserError when the port is taken, or the server ends or is too late.
    """
    check_port_is_free(host, port)
    command = server_command(folder, host, port, extra, num_drafts, reasoning_parser, tool_call_parser)
    url = f"http://{host}:{port}"
    with log_path.open("w") as log, server_process(command, vllm_environment(), log) as server:
        _wait_until_healthy(server, url, log_path, start_timeout)
        yield url


def check_port_is_free(host: str, port: int) -> None:
    """Raise UserError where `host:port` cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another port with --port"
            ) from error


def complete(url: str, model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    """One greedy completion; the server's JSON answer. Raises UserError with the server's text where it refuses."""
    return post(f"{url}/v1/completions", {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0})


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The server's JSON answer to one request; raises UserError with the server's text where it refuses."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url} refused the request ({error.code}): {error.read().decode()}") from error


def curl_line(url: str, body: dict[str, Any]) -> str:
    """A shell command that asks the server the same."""
    return f"curl {url} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"


def _wait_until_healthy(server: ServerProcess, url: str, log_path: Path, limit_seconds: float | None) -> None:
    started = said = time.monotonic()
    while limit_seconds is None or time.monotonic() - started < limit_seconds:
        if server.has_ended():
            raise UserError(f"the server ended while it started (exit code {server.end()}):\n{_tail(log_path)}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
        if time.monotonic() - said >= SAID_EVERY_SECONDS:
            said = time.monotonic()
            print(f"still starting after {said - started:.0f} s:\n{_tail(log_path, 1)}", file=sys.stderr, flush=True)
    raise UserError(f"the server did not answer within {limit_seconds:g} seconds (--start-timeout):\n{_tail(log_path)}")


def _tail(log_path: Path, lines: int = 15) -> str:
    text = log_path.read_text(encoding="utf-8", errors="replace")
    return "\n".join(["    " + line for line in text.splitlines()[-lines:]] + [f"(whole log: {log_path})"])
