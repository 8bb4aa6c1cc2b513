"""What can be known without vLLM: the command, the port, and a server that dies while it starts."""

import json
import shlex
import socket
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.serve import openai_server
from megatron_mimo.serve.speculative import mtp_speculative_config, vllm_environment


def folder(tmp_path: Path, **config: object) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def running(model: Path, port: int) -> AbstractContextManager[str]:
    return openai_server.running_server(model, "127.0.0.1", port, [], model / "log")


def test_drafts_with_the_mtp_layer_of_the_model(tmp_path: Path) -> None:
    model = folder(tmp_path, model_type="mimo", num_nextn_predict_layers=1)
    command = openai_server.server_command(model, "127.0.0.1", 8000, ["--api-key", "secret"])
    option = command[command.index("--speculative-config") + 1]
    assert json.loads(option) == {"method": "mtp", "num_speculative_tokens": 1}
    assert command[-2:] == ["--api-key", "secret"]


def test_a_model_without_mtp_is_served_without_drafts(tmp_path: Path) -> None:
    model = folder(tmp_path, model_type="qwen2")
    assert mtp_speculative_config(model) is None
    assert "--speculative-config" not in openai_server.server_command(model, "127.0.0.1", 8000, [])


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        mtp_speculative_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        mtp_speculative_config(tmp_path)


def test_settings_of_the_user_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    assert vllm_environment()["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert vllm_environment()["HF_HUB_OFFLINE"] == "1"


def test_a_port_in_use_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        message = rf"cannot listen on 127\.0\.0\.1:{port} .*--port"
        with pytest.raises(UserError, match=message), running(folder(tmp_path), port):
            pass
    assert not (tmp_path / "log").exists()


def test_a_server_that_ends_while_it_starts_shows_its_last_words(tmp_path: Path, monkeypatch) -> None:
    program = "import sys; print('no such device'); sys.exit(3)"
    monkeypatch.setattr(openai_server, "server_command", lambda *_: [sys.executable, "-c", program])
    with pytest.raises(UserError, match=r"exit code 3\):\n    no such device"), running(folder(tmp_path), 9):
        pass


def test_curl_line_survives_the_shell() -> None:
    words = shlex.split(openai_server.curl_line("http://h:1", "mimo", "it's\n\\boxed{1}"))
    assert json.loads(words[words.index("-d") + 1])["prompt"] == "it's\n\\boxed{1}"
