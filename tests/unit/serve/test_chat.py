"""The chat in the terminal against a small server that speaks OpenAI's streaming protocol."""

import io
import json
import os
import pty
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.serve import chat
from megatron_mimo.serve.chat_client import ChatForm, CompletionForm, find_model, stream
from megatron_mimo.serve.chat_lines import PlainLines
from support.launch import ROOT
from support.patience import patience

DELTAS = [
    {"role": "assistant"},
    {"reasoning": "1 + 1"},
    {"reasoning_content": " = 2"},
    {"content": "It "},
    {"content": "is 2 ä"},
]
TOO_LONG = "This model's maximum context length is 64 tokens. However, your request has 65 input tokens."
WAIT_SECONDS = 20.0
EMPTY = {"role": "system", "content": ""}
"""What a conversation without a system prompt begins with."""
PROMPTS = "\x1b[?2004h"
"""What the editor sends when it is ready: from here on a pasted text comes in brackets."""


class Handler(BaseHTTPRequestHandler):
    """Answers with DELTAS, or as the last words of the question demand; keeps the requests."""

    requests: ClassVar[list[dict]] = []
    left: ClassVar[threading.Event]
    """Set when a client has closed the connection of an endless answer."""
    folder: ClassVar[str] = ""

    def do_GET(self) -> None:
        self._start(200)
        self.wfile.write(json.dumps({"data": [{"id": "mimo", "root": self.folder}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body | {"path": self.path})
        asked = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        if asked == "too long":
            self._start(400)
            self.wfile.write(json.dumps({"error": {"message": TOO_LONG, "code": 400}}).encode())
        elif "prompt" in body:
            self._start(200)
            self._send({"choices": [{"text": "4+3=7\n", "finish_reason": None}]})
            self._send({"choices": [{"text": "", "finish_reason": "length"}]})
        elif asked == "endless":
            self._start(200)
            self._send({"choices": [{"delta": {"content": "one "}}]})
            if self.connection.recv(1) == b"":
                self.left.set()
        else:
            self._start(200)
            for delta in DELTAS[: 4 if asked == "break off" else None]:
                self._send({"choices": [{"delta": delta}]})
            if asked == "break off":
                self.wfile.write(b"data: {")
            else:
                self._send({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {}})
                self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        pass

    def _start(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def _send(self, event: dict) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()


@pytest.fixture
def url() -> Iterator[str]:
    Handler.requests, Handler.left, Handler.folder = [], threading.Event(), ""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def talk(
    url: str, text: str, form: ChatForm | CompletionForm, sink: io.StringIO | None = None, **settings: object
) -> str:
    """What is written while the lines of `text` are typed."""
    sink = sink or io.StringIO()
    chat.converse(url, form, {"model": "mimo", **settings}, PlainLines(io.StringIO(text), sink), sink)
    return sink.getvalue()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_a_conversation_carries_its_answers_and_not_its_reasoning(url: str) -> None:
    written = talk(url, "1+1?\n\nsure?\n/clear\nagain\n/quit\nnot read\n", ChatForm("be brief"), max_tokens=9)
    assert written.count("1 + 1 = 2It is 2 ä\n") == 3
    system = {"role": "system", "content": "be brief"}
    first, second, third = (request["messages"] for request in Handler.requests)
    assert first == [system, user("1+1?")]
    assert second == [*first, assistant("It is 2 ä"), user("sure?")]
    assert third == [system, user("again")]
    shared = {"model": "mimo", "messages": [], "max_tokens": 9, "stream": True, "path": "/v1/chat/completions"}
    assert Handler.requests[0] | {"messages": []} == shared


def test_a_think_block_that_the_server_leaves_in_the_text_is_not_carried(url: str) -> None:
    form = ChatForm()
    form.keep("1+1?", "<think>\n1\n+1\n</think>\n\\boxed{2}")
    assert form.body("next")["messages"] == [EMPTY, user("1+1?"), assistant("\\boxed{2}"), user("next")]


@pytest.mark.parametrize(
    ("line", "said"),
    [("too long", f"the server refused (400): {TOO_LONG}"), ("break off", "It \nthe server broke off in the middle")],
)
def test_a_fault_is_said_and_the_conversation_goes_on_without_that_line(url: str, line: str, said: str) -> None:
    written = talk(url, f"1+1?\n{line}\nsure?\n", ChatForm())
    assert said in written
    assert "this line is left out of the conversation" in written
    assert Handler.requests[-1]["messages"] == [EMPTY, user("1+1?"), assistant("It is 2 ä"), user("sure?")]


def test_a_server_that_is_gone_is_said_and_the_conversation_goes_on() -> None:
    written = talk("http://127.0.0.1:9", "1+1?\nand now?\n", ChatForm())
    assert written.count("no server answers at http://127.0.0.1:9") == 2


def test_an_interrupt_stops_the_answer_and_the_servers_work_and_keeps_what_came(url: str) -> None:
    """Ctrl-C comes while the client waits for the next piece."""

    class Sink(io.StringIO):
        def write(self, text: str) -> int:
            if text == "one ":
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            return super().write(text)

    written = talk(url, "endless\nsure?\n", ChatForm(), Sink())
    assert "one \n(stopped)\n" in written
    assert Handler.left.wait(patience(WAIT_SECONDS)), "the server learns of it while it works"
    assert Handler.requests[-1]["messages"] == [EMPTY, user("endless"), assistant("one "), user("sure?")]


def test_a_base_model_continues_each_line_on_its_own(url: str) -> None:
    written = talk(url, "Question: 4+3=?\nIt is \\\n", CompletionForm(), temperature=0.5)
    assert "4+3=7" in written
    assert "cut off" in written
    first, second = Handler.requests
    assert (first["path"], first["prompt"], second["prompt"]) == ("/v1/completions", "Question: 4+3=?\n", "It is ")
    assert (first["temperature"], first["max_tokens"]) == (0.5, 256)
    talk(url, "Question: 4+3=?\n", CompletionForm(), max_tokens=3)
    assert Handler.requests[-1]["max_tokens"] == 3


def model_folder(folder: Path, template: str = "", **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize(
    ("config", "template", "form"),
    [
        ({"chat_trained": False}, "{{ messages }}", CompletionForm),
        ({"chat_trained": True}, "{{ messages }}", ChatForm),
        ({}, "{{ messages }}", ChatForm),  # another maker's
        ({}, "", CompletionForm),
    ],
)
def test_the_form_is_what_the_model_was_trained_for(tmp_path: Path, capsys, config, template, form) -> None:
    folder = model_folder(tmp_path, template, **config)
    assert type(chat.choose_form("auto", folder, "")) is form
    assert ("base model" in capsys.readouterr().out) == (form is CompletionForm)
    assert type(chat.choose_form("chat", folder, "")) is ChatForm
    assert type(chat.choose_form("completion", folder, "")) is CompletionForm


def test_a_system_prompt_has_no_place_in_a_completion(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--system"):
        chat.choose_form("auto", model_folder(tmp_path, chat_trained=False), "be brief")


def test_a_model_elsewhere_is_taken_for_a_chat_model_and_that_is_said(capsys) -> None:
    assert type(chat.choose_form("auto", None, "")) is ChatForm
    assert "--form completion" in capsys.readouterr().out


def test_a_servers_model_on_this_machine_is_found(url: str, tmp_path: Path) -> None:
    assert (find_model(url).name, find_model(url).folder) == ("mimo", None)
    Handler.folder = str(model_folder(tmp_path))
    assert find_model(url).folder == tmp_path


def test_errors_name_the_server(url: str) -> None:
    with pytest.raises(UserError, match=r"the server refused \(400\): This model's maximum context"):
        list(stream(f"{url}/v1/chat/completions", {"messages": [user("too long")]}))
    with pytest.raises(UserError, match="no server answers at http://127.0.0.1:9"):
        find_model("http://127.0.0.1:9")


def test_tokens_are_shown_as_they_come() -> None:
    sink, seen, answer = io.StringIO(), [], chat.Answer()

    def parts() -> Iterator[tuple[str, str]]:
        for text in ("a", "b"):
            yield "content", text
            seen.append(sink.getvalue())
        yield "end", "stop"

    chat.show(parts(), answer, sink)
    assert answer == chat.Answer("ab", "stop")
    assert seen == ["a", "ab"]


class Terminal:
    """The program in a terminal of its own."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        self.process, self.descriptor = pty.fork()
        if self.process == 0:
            command = [sys.executable, "-m", "megatron_mimo.serve.chat", *arguments]
            os.execve(sys.executable, command, os.environ | environment)
        self.seen = ""

    def wait_for(self, text: str, count: int = 1) -> None:
        """Read until `text` has been written `count` times."""
        deadline = time.monotonic() + patience(WAIT_SECONDS)
        while self.seen.count(text) < count and time.monotonic() < deadline:
            if select.select([self.descriptor], [], [], 1.0)[0]:
                self.seen += os.read(self.descriptor, 4096).decode()
        assert self.seen.count(text) >= count, self.seen

    def press(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def exit_code(self) -> int:
        _, status = os.waitpid(self.process, 0)
        self.process = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """End what a failed test leaves."""
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            self.exit_code()
        os.close(self.descriptor)


def test_keys_in_a_real_terminal(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Arrow keys, Ctrl-C in an answer and on an empty line, and a history that a second chat finds."""
    environment = {
        "TERM": "xterm",
        "PROMPT_TOOLKIT_NO_CPR": "1",
        "XDG_STATE_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    terminal = Terminal("--url", url, "--form", "chat", environment=environment)
    request.addfinalizer(terminal.close)
    terminal.wait_for(PROMPTS)
    terminal.press("fst\x1b[D\x1b[Dir\r")  # two places to the left, then the missing letters
    terminal.wait_for(PROMPTS, count=2)
    terminal.press("endless\r")
    terminal.wait_for("one ")
    terminal.press("\x03")
    terminal.wait_for(PROMPTS, count=3)
    assert "(stopped)" in terminal.seen
    terminal.press("never sent\x03\x1b[A\x1b[A\r")
    terminal.wait_for(PROMPTS, count=4)
    assert terminal.seen.count("is 2 ä") == 2
    terminal.press("\x03")
    assert terminal.exit_code() == 0
    assert [request["messages"][-1]["content"] for request in Handler.requests] == ["first", "endless", "first"]
    assert Handler.requests[2]["messages"][-3:-1] == [user("endless"), assistant("one ")]
    history = tmp_path / "megatron-mimo" / "chat_history"
    assert history.stat().st_mode & 0o077 == 0
    assert "+endless\n" in history.read_text()
