"""What can be known without vLLM: the command, the port, and a server that dies while it starts."""

import json
import shlex
import socket
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.serve import openai_server, speculative
from megatron_mimo.serve.engine_settings import engine_settings, server_options
from megatron_mimo.serve.speculative import mtp_speculative_config, vllm_environment
from support.xiaomi import model_config, write_tokenizer


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


def test_server_and_engines_have_one_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine gets as arguments, the server gets as options; on CPUs prompts stay whole."""
    model = folder(tmp_path, num_nextn_predict_layers=0, torch_dtype="float32")
    settings = engine_settings(model)
    assert settings["enforce_eager"] and not settings["enable_chunked_prefill"]
    command = openai_server.server_command(model, "127.0.0.1", 8000, [])
    assert command[3:] == [
        *("--model", str(model), "--trust-remote-code", "--dtype", "float32"),
        *("--enforce-eager", "--no-enable-chunked-prefill"),
        *("--served-model-name", "model", "--host", "127.0.0.1", "--port", "8000"),
    ]
    assert engine_settings(model, dtype="bfloat16")["dtype"] == "bfloat16"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    on_gpu = set(server_options(engine_settings(model, dtype="float32")))
    assert {"--no-enforce-eager", "--enable-chunked-prefill"} <= on_gpu


def test_several_mtp_layers_need_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = folder(tmp_path, num_nextn_predict_layers=3)
    assert mtp_speculative_config(model) == {"method": "mtp", "num_speculative_tokens": 3}
    assert mtp_speculative_config(model, 2) == {"method": "mtp", "num_speculative_tokens": 2}
    assert mtp_speculative_config(model, 0) is None
    with pytest.raises(UserError, match=r"cannot draft 4 tokens: .* has 3 MTP layer"):
        mtp_speculative_config(model, 4)
    after_norm = folder(tmp_path, num_nextn_predict_layers=3, mtp_hidden_state="after_final_norm")
    assert mtp_speculative_config(after_norm) is None
    folder(tmp_path, num_nextn_predict_layers=3)
    monkeypatch.setattr(speculative, "entry_points", lambda **_: [])
    with pytest.raises(UserError, match=r"not installed.*\n?.*pip install"):
        openai_server.server_command(model, "127.0.0.1", 8000, [])
    assert "--speculative-config" in openai_server.server_command(model, "127.0.0.1", 8000, [], num_drafts=1)


def test_a_recursive_layer_drafts_any_number_without_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = folder(tmp_path, num_nextn_predict_layers=1, mtp_recursive_steps=3)
    assert mtp_speculative_config(model) == {"method": "mtp", "num_speculative_tokens": 3}
    assert mtp_speculative_config(model, 5) == {"method": "mtp", "num_speculative_tokens": 5}
    assert mtp_speculative_config(model, 0) is None
    with pytest.raises(UserError, match="cannot draft -1"):
        mtp_speculative_config(model, -1)
    monkeypatch.setattr(speculative, "entry_points", lambda **_: [])
    assert "--speculative-config" in openai_server.server_command(model, "127.0.0.1", 8000, [])
    after_norm = folder(
        tmp_path, num_nextn_predict_layers=1, mtp_recursive_steps=3, mtp_hidden_state="after_final_norm"
    )
    assert mtp_speculative_config(after_norm) is None


@pytest.mark.parametrize(
    ("template", "setting", "parser"),
    [("{{ '<think>' }}", "auto", "mimo"), ("", "auto", None), ("", "qwen3", "qwen3"), ("<think>", "none", None)],
)
def test_reasoning_parser(tmp_path: Path, template: str, setting: str, parser: str | None) -> None:
    model = folder(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(template)
    command = openai_server.server_command(model, "127.0.0.1", 8000, [], reasoning_parser=setting)
    found = command[command.index("--reasoning-parser") + 1] if "--reasoning-parser" in command else None
    assert found == parser


@pytest.mark.parametrize(
    ("config", "parser"),
    [
        ({}, "mimo"),  # as Xiaomi publishes it
        ({"chat_trained": True, "thinks": True}, "mimo"),
        ({"chat_trained": True, "thinks": False}, None),
        ({"chat_trained": True}, None),  # exported before that was recorded
        ({"chat_trained": False}, None),
        ({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}, None),
    ],
)
def test_parsers_of_xiaomis_own_files(tmp_path: Path, config: dict, parser: str | None) -> None:
    """They do not hold the word <think>; the template writes Qwen2.5's tool calls."""
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(model_config(**config)))
    assert "<think>" not in (tmp_path / "tokenizer_config.json").read_text()
    command = openai_server.server_command(tmp_path, "127.0.0.1", 8000, [])
    found = command[command.index("--reasoning-parser") + 1] if "--reasoning-parser" in command else None
    assert found == parser
    assert command[command.index("--tool-call-parser") + 1] == "hermes"
    assert "--enable-auto-tool-choice" in command


@pytest.mark.parametrize(
    ("template", "setting", "extra", "parser"),
    [
        ("{{ messages }}", "auto", [], None),
        ("<tool_call>{{ call.arguments }}</tool_call>", "auto", [], "hermes"),
        ("<tool_call>{{ call.arguments }}</tool_call>", "none", [], None),
        ("<tool_call><function=a>{{ call.arguments }}", "auto", [], None),
        ("{{ messages }}", "qwen3_xml", [], "qwen3_xml"),
        ("<tool_call>{{ call.arguments }}</tool_call>", "auto", ["--tool-call-parser", "own"], "own"),
    ],
)
def test_tool_call_parser(tmp_path: Path, template: str, setting: str, extra: list[str], parser: str | None) -> None:
    model = folder(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(template)
    command = openai_server.server_command(model, "127.0.0.1", 8000, extra, tool_call_parser=setting)
    assert command.count("--tool-call-parser") == (parser is not None)
    assert parser is None or command[command.index("--tool-call-parser") + 1] == parser


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
    body = {"model": "mimo", "prompt": "it's\n\\boxed{1}"}
    words = shlex.split(openai_server.curl_line("http://h:1/v1/completions", body))
    assert words[1] == "http://h:1/v1/completions"
    assert json.loads(words[words.index("-d") + 1]) == body
