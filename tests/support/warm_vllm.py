"""A Python that has imported vLLM already: programs that tests start with it save ten seconds for every process.

vLLM's server is three processes and an evaluation is two, and each imports the same. The `vllm_python` fixture gives
the path of an executable that takes `-m MODULE` or a file, and arguments, and has the program run by a process forked
from one that has done the imports. One test of each entry point starts it as users do.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from megatron_mimo.serve.speculative import vllm_environment
from support.paths import TESTS, environment
from support.patience import patience

START_SECONDS = 120.0
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect({path!r})
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: connection.send(str(number).encode()))
request = dict(program=sys.argv[1:], environment=dict(os.environ), folder=os.getcwd(), group=os.getpgrp())
socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
code = int(connection.recv(100) or 1)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@pytest.fixture(scope="session")
def vllm_python() -> Iterator[str]:
    """The executable."""
    with tempfile.TemporaryDirectory(prefix="vllm_") as folder:
        path, client = Path(folder) / "socket", Path(folder) / "python"
        client.write_text(CLIENT.format(python=sys.executable, path=str(path)))
        client.chmod(0o755)
        command = [sys.executable, str(TESTS / "support" / "vllm_forks.py"), str(path)]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, env=vllm_environment() | environment())
        deadline = time.monotonic() + patience(START_SECONDS)
        while not path.exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        yield str(client)
        server.communicate(timeout=patience(START_SECONDS))
