"""A chat endpoint on a thread of this process, which can be told to fail."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ChatServer:
    """What was asked, and how to answer: `faults` are used up first, a status (0 hangs up, -1 sends no JSON) each."""

    answer: Callable[[dict[str, Any]], Any]
    """Of a chat its content; of a completion the text, or the choice as it is sent."""
    faults: list[int] = field(default_factory=list)
    delay_seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Listener(ThreadingHTTPServer):
    request_queue_size = 128
    """As many clients may knock at once; the library's 5 are refused on a busy machine."""


@contextmanager
def chat_server(server: ChatServer) -> Iterator[ChatServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.bodies.append(body)
                server.keys.append(self.headers.get("Authorization"))
                server.in_flight += 1
                server.most_in_flight = max(server.most_in_flight, server.in_flight)
                fault = server.faults.pop(0) if server.faults else 200
            time.sleep(server.delay_seconds)
            with server.lock:
                server.in_flight -= 1
            if fault != 0:
                self._reply(fault, body)

        def _reply(self, status: int, body: dict[str, Any]) -> None:
            prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
            said: Any = server.answer(body) if status == 200 else ""
            message = {"role": "assistant", "content": said}
            choice = (said if isinstance(said, dict) else {"text": said}) if "prompt" in body else {"message": message}
            content: dict[str, Any] = {"choices": [choice | {"finish_reason": "stop"}]}
            content["usage"] = {"prompt_tokens": 10, "completion_tokens": 5}
            text = "<html>bad gateway" if status == -1 else json.dumps(content)
            with server.lock:
                server.answered[prompt] += status == 200
            self.send_response(200 if status == -1 else status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Keep the tests' output clean."""

    listener = Listener(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_port}/v1"
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
