"""The chat in the terminal against a small server that speaks OpenAI's streaming protocol."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.serve import chat

DELTAS = [
    {"role": "assistant"},
    {"reasoning": "1 + 1"},
    {"reasoning_content": " = 2"},
    {"content": "It "},
    {"content": "is 2 ä"},
]


class Handler(BaseHTTPRequestHandler):
    """Answers every question with DELTAS and keeps the requests."""

    requests: ClassVar[list[dict]] = []

    def do_GET(self) -> None:
        self._answer(json.dumps({"data": [{"id": "mimo"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        if body["messages"][-1]["content"] == "fail":
            self.send_error(400, "too long")
            return
        events = [{"choices": [{"delta": delta}]} for delta in DELTAS] + [{"choices": [], "usage": {}}]
        self._answer("".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def url() -> Iterator[str]:
    Handler.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_conversation_carries_its_answers_and_not_its_reasoning(url: str) -> None:
    sink = io.StringIO()
    source = io.StringIO("1+1?\n\nsure?\n/clear\nagain\n/quit\nnot read\n")
    chat.converse(url, chat.find_model(url), "be brief", {"max_tokens": 9}, source, sink)
    assert sink.getvalue().count("1 + 1 = 2It is 2 ä\n") == 3
    system = {"role": "system", "content": "be brief"}
    first, second, third = (request["messages"] for request in Handler.requests)
    assert first == [system, {"role": "user", "content": "1+1?"}]
    answered = [{"role": "assistant", "content": "It is 2 ä"}, {"role": "user", "content": "sure?"}]
    assert second == first + answered
    assert third == [system, {"role": "user", "content": "again"}]
    assert Handler.requests[0] | {"messages": []} == {"model": "mimo", "messages": [], "max_tokens": 9, "stream": True}


def test_errors_name_the_server(url: str) -> None:
    with pytest.raises(UserError, match=r"refused the request \(400\)"):
        list(chat.stream_chat(url, {"messages": [{"role": "user", "content": "fail"}]}))
    with pytest.raises(UserError, match="no server answers at http://127.0.0.1:9"):
        chat.find_model("http://127.0.0.1:9")


def test_tokens_are_shown_as_they_come() -> None:
    sink, seen = io.StringIO(), []

    def parts() -> Iterator[tuple[str, str]]:
        for text in ("a", "b"):
            yield "content", text
            seen.append(sink.getvalue())

    assert chat.show(parts(), sink) == "ab"
    assert seen == ["a", "ab"]
