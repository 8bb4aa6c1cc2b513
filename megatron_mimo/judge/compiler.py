"""Compiles C++ solutions in a sandbox of their own and keeps the binaries of the last ones."""

import os
import shutil
import threading
from collections import OrderedDict
from hashlib import sha256

import msgspec

from megatron_mimo.config import UserError
from megatron_mimo.config.judge import JudgeConfig
from megatron_mimo.judge.bubblewrap import Host
from megatron_mimo.judge.inside.supervisor import REASON_STALLED, REASON_WALL
from megatron_mimo.judge.request import Limits
from megatron_mimo.judge.result import TestResult, Verdict
from megatron_mimo.judge.sandbox import Sandbox, SandboxDied, memory_file, read_tail

SCRATCH_BYTES = 512 << 20
MAX_BINARY_BYTES = 64 << 20
MESSAGE_BYTES = 4000


class Compiler:
    """Shared by the slots of a pool."""

    def __init__(self, config: JudgeConfig, host: Host) -> None:
        self._config, self._host = config, host
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cached_bytes = 0

    def compile(self, source: str, limits: Limits, uid: int) -> tuple[TestResult | None, bytes]:
        """(None, binary) or (the compile error, b""). Raises SandboxDied, UserError without a compiler."""
        key = sha256(source.encode(errors="surrogatepass")).digest()
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return None, self._cache[key]
        failed, binary = self._run(source, limits, uid)
        if not failed:
            self._keep(key, binary)
        return failed, binary

    def _run(self, source: str, limits: Limits, uid: int) -> tuple[TestResult | None, bytes]:
        path = shutil.which(self._config.compiler)
        if path is None:
            raise UserError(f"judge.compiler = {self._config.compiler!r} not found: install g++ (apt-get install g++)")
        own = compiler_limits(limits)
        message = {"arguments": [path, *self._config.compiler_arguments, "-x", "c++", "-", "-o", "/tmp/program"]}
        fds = [memory_file(source.encode(errors="surrogatepass")), memory_file(), memory_file()]
        try:
            with Sandbox(self._host, own, uid, [], with_compiler=True) as sandbox:
                outcome = sandbox.run("compile", message, fds)
            if outcome.reason in (REASON_WALL, REASON_STALLED):
                raise SandboxDied(
                    f"the compiler got {outcome.cpu_seconds:.1f} s of processor in {outcome.wall_seconds:.0f} s"
                )
            text = read_tail(fds[2], MESSAGE_BYTES).decode(errors="replace")
            if outcome.exit_code != 0 or outcome.reason:
                return TestResult(verdict=Verdict.COMPILE_ERROR, cpu_seconds=outcome.cpu_seconds, message=text), b""
            return None, os.pread(fds[1], MAX_BINARY_BYTES, 0)
        finally:
            for fd in fds:
                os.close(fd)

    def _keep(self, key: bytes, binary: bytes) -> None:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = binary
                self._cached_bytes += len(binary)
            while self._cached_bytes > self._config.binary_cache_bytes and self._cache:
                _, dropped = self._cache.popitem(last=False)
                self._cached_bytes -= len(dropped)


def compiler_limits(limits: Limits) -> Limits:
    """The compiler forks its passes, needs scratch files and has its own time and memory."""
    return msgspec.structs.replace(
        limits,
        cpu_seconds=limits.compile_cpu_seconds,
        wall_seconds=10 * limits.compile_cpu_seconds,
        memory_bytes=limits.compile_memory_bytes,
        output_bytes=MAX_BINARY_BYTES,
        scratch_bytes=SCRATCH_BYTES,
        max_threads=32,
        may_fork=True,
    )
