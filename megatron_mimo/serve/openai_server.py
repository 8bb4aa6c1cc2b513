"""vLLM's OpenAI-compatible server on an exported folder: start it, wait until it answers, ask it, stop it."""

import json
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from megatron_mimo.config import UserError
from megatron_mimo.serve.speculative import (
    check_plugin_is_installed,
    compute_dtype,
    is_recursive,
    mtp_speculative_config,
    read_model_config,
    vllm_environment,
)

START_SECONDS = 300
STOP_SECONDS = 20
REASONING_PARSER = "mimo"
"""vLLM's parser that splits `<think>...</think>` off the answer; it needs no special tokens for the two marks."""


def server_command(
    folder: Path, host: str, port: int, extra: list[str], num_drafts: int | None = None, reasoning_parser: str = "auto"
) -> list[str]:
    """The command line of the server. `vllm serve` is the same program, but fails in CPU builds of vLLM.

    `num_drafts`: tokens drafted a step, see `mtp_speculative_config`. `reasoning_parser`: a name of vLLM's,
    "none", or "auto" for models that think. Raises UserError where several layers lack vLLM's plugin.
    """
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder.resolve())]
    command += ["--served-model-name", served_name(folder), "--trust-remote-code", "--host", host, "--port", str(port)]
    command += ["--dtype", compute_dtype(folder)]
    speculative_config = mtp_speculative_config(folder, num_drafts)
    if speculative_config is not None:
        if speculative_config["num_speculative_tokens"] > 1 and not is_recursive(read_model_config(folder)):
            check_plugin_is_installed()
        command += ["--speculative-config", json.dumps(speculative_config)]
    if reasoning_parser == "auto":
        reasoning_parser = REASONING_PARSER if thinks(folder) else "none"
    if reasoning_parser != "none":
        command += ["--reasoning-parser", reasoning_parser]
    if not torch.cuda.is_available():
        command += ["--enforce-eager"]  # compiling takes longer than it gains on the CPU
    return command + extra


def served_name(folder: Path) -> str:
    """The name by which requests ask for the model."""
    return read_model_config(folder).get("model_type", "model")


def thinks(folder: Path) -> bool:
    """Whether the tokenizer's files speak of `<think>`: vLLM's parser calls an answer without it reasoning."""
    names = ("tokenizer_config.json", "chat_template.jinja", "added_tokens.json")
    files = [folder / name for name in names]
    return any("<think>" in file.read_text(encoding="utf-8") for file in files if file.is_file())


@contextmanager
def running_server(
    folder: Path, host: str, port: int, extra: list[str], log_path: Path, num_drafts: int | None = None,
    reasoning_parser: str = "auto",
) -> Iterator[str]:  # fmt: skip
    """Start the server, yield its URL once it is healthy, stop it and its children at the end.

    Settings as of `server_command`. Output goes to `log_path`. Raises UserError when the port is taken, or the server
    ends or stays silent while it starts.
    """
    check_port_is_free(host, port)
    command = server_command(folder, host, port, extra, num_drafts, reasoning_parser)
    url = f"http://{host}:{port}"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            command,
            env=vllm_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C in the terminal is for this program, which decides what ends
        )
        try:
            _wait_until_healthy(process, url, log_path)
            yield url
        finally:
            _stop(process)


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


def _wait_until_healthy(process: subprocess.Popen, url: str, log_path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the server ended while it started (exit code {process.returncode}):\n{_tail(log_path)}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise UserError(f"the server did not answer within {START_SECONDS} seconds:\n{_tail(log_path)}")


def _stop(process: subprocess.Popen) -> None:
    """SIGTERM lets the server end its engine process; SIGKILL follows where it does not."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log_path: Path, lines: int = 15) -> str:
    text = log_path.read_text(encoding="utf-8", errors="replace")
    return "\n".join(["    " + line for line in text.splitlines()[-lines:]] + [f"(whole log: {log_path})"])
