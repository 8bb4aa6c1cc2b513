"""The judge over HTTP: POST /judge, GET /health, GET /metrics, and SandboxFusion's POST /run_code.

A full queue answers 429 with Retry-After, a server on its way down 503: clients go elsewhere (client.py). With a token,
programs are judged for those alone who send it; without one the server listens on this machine only. Requests are not
encrypted: serve on a private network.
"""

import asyncio
import hmac
import ipaddress
import time
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.judge.client import TOKEN
from megatron_mimo.judge.pool import JudgePool
from megatron_mimo.judge.request import JudgeRequest, Limits, Solution
from megatron_mimo.judge.result import JudgeResult, Verdict

MAX_BODY_BYTES = 1 << 30
SANDBOX_FUSION_LANGUAGES = {"python": "python", "cpp": "cpp"}


class RunCode(msgspec.Struct, kw_only=True):
    """SandboxFusion's request; fields that are not here (files, fetch_files) are refused."""

    code: str
    language: str
    stdin: str | None = None
    compile_timeout: float = 10.0
    run_timeout: float = 10.0
    memory_limit_MB: float = -1  # noqa: N815  SandboxFusion's name
    files: dict[str, str] = {}
    fetch_files: list[str] = []


class Metrics:
    """Prometheus metrics of one server."""

    def __init__(self, num_slots: int) -> None:
        self.registry = CollectorRegistry()
        self.slots = Gauge("judge_slots", "Programs judged at a time", registry=self.registry)
        self.slots.set(num_slots)
        self.unfinished = Gauge("judge_unfinished_requests", "Waiting or running", registry=self.registry)
        self.refused = Counter("judge_refused_requests", "Refused because the queue is full", registry=self.registry)
        self.solutions = Counter("judge_solutions", "By verdict", ["verdict"], registry=self.registry)
        self.tests = Counter("judge_tests", "By verdict", ["verdict"], registry=self.registry)
        self.seconds = Histogram(
            "judge_request_seconds",
            "From arrival to answer, waiting included",
            buckets=(0.05, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
            registry=self.registry,
        )

    def record(self, result: JudgeResult, seconds: float) -> None:
        self.solutions.labels(result.verdict).inc()
        for test in result.tests:
            self.tests.labels(test.verdict).inc()
        self.seconds.observe(seconds)


class JudgeServer:
    """An aiohttp application around a pool; `application()` is what to run."""

    def __init__(self, pool: JudgePool, token: str = "") -> None:
        """token: what requests must carry as `Authorization: Bearer TOKEN`; empty: nothing."""
        self._token = token
        self._pool, self._metrics = pool, Metrics(pool.config.slots)
        self._unfinished, self._mean_seconds, self._closing = 0, 1.0, False

    def application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.add_routes(
            [
                web.post("/judge", self._judge),
                web.post("/run_code", self._run_code),
                web.get("/health", self._health),
                web.get("/metrics", self._show_metrics),
            ]
        )
        application.cleanup_ctx.append(self._lifetime)
        return application

    async def _lifetime(self, _: web.Application) -> AsyncIterator[None]:
        yield
        self._closing = True

    async def _judge(self, http: web.Request) -> web.Response:
        if refusal := self._unknown(http) or self._refusal():
            return refusal
        try:
            request = msgspec.json.decode(await http.read(), type=JudgeRequest)
            request.check()
        except (msgspec.DecodeError, UserError) as error:
            return web.Response(status=400, text=str(error))
        result = await self._work(request)
        return web.Response(body=msgspec.json.encode(result), content_type="application/json")

    async def _run_code(self, http: web.Request) -> web.Response:
        """Run a program and answer its output, in SandboxFusion's form."""
        if refusal := self._unknown(http) or self._refusal():
            return refusal
        try:
            asked = msgspec.json.decode(await http.read(), type=RunCode)
        except msgspec.DecodeError as error:
            return web.Response(status=422, text=str(error))
        if asked.language not in SANDBOX_FUSION_LANGUAGES or asked.files or asked.fetch_files:
            return web.Response(
                status=422, text="languages are python and cpp; files and fetch_files are not supported"
            )
        with self._counted():
            run = await asyncio.wrap_future(self._pool.run(*self._program(asked)))
        return web.json_response(sandbox_fusion_form(run))

    def _program(self, asked: RunCode) -> tuple[Solution, str, Limits]:
        memory = int(asked.memory_limit_MB * 2**20) if asked.memory_limit_MB > 0 else Limits().memory_bytes
        limits = Limits(
            cpu_seconds=asked.run_timeout,
            wall_seconds=asked.run_timeout,
            compile_cpu_seconds=asked.compile_timeout,
            memory_bytes=memory,
        )
        language = "cpp" if asked.language == "cpp" else "python"
        return Solution(source=asked.code, language=language), asked.stdin or "", limits

    async def _work(self, request: JudgeRequest) -> JudgeResult:
        start = time.monotonic()
        with self._counted():
            result = await asyncio.wrap_future(self._pool.submit(request))
        seconds = time.monotonic() - start
        self._mean_seconds += 0.1 * (seconds - self._mean_seconds)
        self._metrics.record(result, seconds)
        return result

    def _unknown(self, http: web.Request) -> web.Response | None:
        given = http.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self._token or hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        return web.Response(
            status=401, text=f"this judge server wants a token: set {TOKEN} to the one it was started with"
        )

    def _refusal(self) -> web.Response | None:
        if self._closing:
            return web.Response(status=503, headers={"Retry-After": "10"}, text="shutting down")
        if self._unfinished < self._pool.config.max_queue + self._pool.config.slots:
            return None
        self._metrics.refused.inc()
        wait = max(1, round(self._mean_seconds))
        return web.Response(status=429, headers={"Retry-After": str(wait)}, text="the queue is full")

    def _counted(self) -> "Unfinished":
        return Unfinished(self)

    def count(self, change: int) -> None:
        self._unfinished += change
        self._metrics.unfinished.set(self._unfinished)

    async def _health(self, _: web.Request) -> web.Response:
        slots = self._pool.config.slots
        return web.json_response(
            {
                "status": "closing" if self._closing else "ok",
                "slots": slots,
                "running": min(self._unfinished, slots),
                "waiting": max(0, self._unfinished - slots),
            },
            status=503 if self._closing else 200,
        )

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics.registry), content_type="text/plain")


class Unfinished:
    """Counts a request while it waits or runs."""

    def __init__(self, server: JudgeServer) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._server.count(1)

    def __exit__(self, *_: object) -> None:
        self._server.count(-1)


def sandbox_fusion_form(run) -> dict:
    """SandboxFusion's answer: Success, Failed (the program's fault) or SandboxError."""
    test = run.result
    status = {Verdict.ACCEPTED: "Success", Verdict.JUDGE_FAULT: "SandboxError"}.get(test.verdict, "Failed")
    ran = test.verdict not in (Verdict.COMPILE_ERROR, Verdict.JUDGE_FAULT)
    compiled = {
        "status": "Error",
        "execution_time": test.cpu_seconds,
        "return_code": 1,
        "stdout": "",
        "stderr": test.message,
    }
    outcome = {
        "status": "TimeLimitExceeded" if test.verdict is Verdict.TIME_LIMIT else "Finished",
        "execution_time": test.wall_seconds,
        "return_code": None if test.verdict is Verdict.TIME_LIMIT else run.exit_code,
        "stdout": run.stdout,
        "stderr": run.stderr,
    }
    return {
        "status": status,
        "message": test.message if test.verdict is Verdict.JUDGE_FAULT else "",
        "compile_result": compiled if test.verdict is Verdict.COMPILE_ERROR else None,
        "run_result": outcome if ran else None,
        "executor_pod_name": None,
        "files": {},
    }


def check_address(host: str, token: str) -> None:
    """Raise ConfigError for an address that others reach, without a token: anybody could run programs here."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not token:
        way_out = f"others reach it: put a secret into {TOKEN}, here and for the clients, or listen on 127.0.0.1"
        raise ConfigError("host", host, way_out)
