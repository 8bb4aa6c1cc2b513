"""A server's processes end with the block, with the server, and with an owner that is killed; starts may be slow."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.platform.network import free_port
from megatron_mimo.serve import openai_server
from megatron_mimo.serve.server_process import server_process
from support.launch import ROOT
from support.patience import patience
from support.processes import is_alive

ENGINE = """
import pathlib, signal, subprocess, sys, time
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
engine = subprocess.Popen([sys.executable, "-c", deaf])
pathlib.Path(sys.argv[1]).write_text(str(engine.pid))
time.sleep(float(sys.argv[2]))
"""
"""A server that leaves its engine, which is deaf to SIGTERM, behind."""
OWNER = """
import os, sys
from megatron_mimo.serve.server_process import server_process
with server_process([sys.executable, "-c", *sys.argv[1:]], os.environ, open(os.devnull, "w")) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""
SLOW = """
import http.server, sys, time
print("loading the weights", flush=True)
time.sleep(1.5)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + patience(seconds)
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def engine_of(file: Path) -> int:
    assert eventually(lambda: file.is_file() and file.read_text() != "")
    return int(file.read_text())


@pytest.mark.parametrize("lives", [600, 0], ids=["stopped", "ended by itself"])
def test_the_engine_ends_with_its_server(tmp_path: Path, lives: int) -> None:
    command = [sys.executable, "-c", ENGINE, str(tmp_path / "pid"), str(lives)]
    with (tmp_path / "log").open("w") as log, server_process(command, os.environ, log) as server:
        engine = engine_of(tmp_path / "pid")
        assert eventually(lambda: server.has_ended() == (lives == 0))
        assert is_alive(engine)
    assert not is_alive(server.pid)
    assert eventually(lambda: not is_alive(engine))


def test_an_interrupt_ends_them_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENGINE, str(tmp_path / "pid"), "600"]

    def interrupted() -> None:
        with (tmp_path / "log").open("w") as log, server_process(command, os.environ, log):
            engine_of(tmp_path / "pid")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert eventually(lambda: not is_alive(int((tmp_path / "pid").read_text())))


def test_they_end_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, ENGINE, str(tmp_path / "pid"), "600"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    with owner:
        assert owner.stdout is not None
        server, engine = int(owner.stdout.readline()), engine_of(tmp_path / "pid")
        assert is_alive(server) and is_alive(engine)
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: not is_alive(server) and not is_alive(engine))


def test_a_start_takes_the_time_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    (tmp_path / "config.json").write_text("{}")
    port = free_port()
    monkeypatch.setattr(openai_server, "server_command", lambda *_: [sys.executable, "-c", SLOW, str(port)])
    monkeypatch.setattr(openai_server, "SAID_EVERY_SECONDS", 0.2)

    def start(seconds: float | None) -> None:
        log = tmp_path / "log"
        with openai_server.running_server(tmp_path, "127.0.0.1", port, [], log, start_timeout=seconds) as url:
            assert url == f"http://127.0.0.1:{port}"

    start(None)
    said = capfd.readouterr().err
    assert "still starting after" in said
    assert "loading the weights" in said
    with pytest.raises(UserError, match=r"did not answer within 0\.3 seconds \(--start-timeout\)"):
        start(0.3)
    start(patience(60.0))  # the port is free again
