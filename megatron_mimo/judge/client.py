"""Client of several judge servers: spreads requests, moves on when a server is full, dead or at fault."""

import asyncio
import os
import random
import time
from dataclasses import dataclass

import aiohttp
import msgspec

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.judge.request import JudgeRequest, Limits, Solution, Test
from megatron_mimo.judge.result import JudgeResult, Verdict

TOKEN = "MEGATRON_MIMO_JUDGE_TOKEN"
"""Environment variable with the secret that server and clients share."""
FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 0.5, 30.0


class JudgeUnavailable(Exception):
    """No server gave an answer in time: a fault of the judge. Retry or drop the sample, never score it."""


class RequestRefused(UserError):
    """A server understood the request and found it wrong; another would too."""


@dataclass
class Server:
    """What the client knows of a server."""

    url: str
    in_flight: int = 0
    rests_until: float = 0.0
    failures: int = 0

    def rest(self, seconds: float) -> None:
        self.rests_until = time.monotonic() + seconds

    def failed(self) -> None:
        self.failures += 1
        self.rest(min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2 ** (self.failures - 1)))


class JudgeClient:
    """The asyncio face of JudgePool, over servers. Use it in an `async with` block.

    Judging is repeatable, so a request whose server died is sent to another as it is.
    """

    def __init__(
        self, urls: list[str], *, give_up_seconds: float = 900.0, answer_seconds: float = 700.0, max_faults: int = 3
    ) -> None:
        """answer_seconds: wait for one server; give_up_seconds: for all; max_faults: `judge_fault` answers taken."""
        if not urls:
            raise ConfigError("urls", urls, "name at least one server, http://host:port")
        self._servers = [Server(url.rstrip("/")) for url in urls]
        self._give_up_seconds, self._max_faults = give_up_seconds, max_faults
        self._timeout = aiohttp.ClientTimeout(total=answer_seconds, connect=10)
        self._session: aiohttp.ClientSession | None = None

    async def judge(
        self,
        solution: Solution,
        tests: list[Test],
        *,
        limits: Limits | None = None,
        levels: list[int] | None = None,
        stop_at_first_failure: bool = False,
    ) -> JudgeResult:
        """Verdicts of `solution`. Raises JudgeUnavailable, RequestRefused, ConfigError; a `judge_fault` is tried again
        on other servers and returned as it is after `max_faults` of them."""
        request = JudgeRequest(
            solution=solution,
            tests=tests,
            limits=limits or Limits(),
            levels=levels,
            stop_at_first_failure=stop_at_first_failure,
        )
        request.check()
        return await self._until_answered(msgspec.json.encode(request))

    async def _until_answered(self, body: bytes) -> JudgeResult:
        end, faults, tried = time.monotonic() + self._give_up_seconds, 0, set()
        while True:
            server = await self._choose(end, tried)
            result = await self._ask(server, body)
            if result is None:
                continue
            if result.verdict is not Verdict.JUDGE_FAULT:
                return result
            faults += 1
            tried.add(server.url)
            if faults >= self._max_faults:
                return result

    async def _choose(self, end: float, tried: set[str]) -> Server:
        """The least busy server that does not rest, one that has not failed this request if there is any."""
        while True:
            now = time.monotonic()
            if now > end:
                raise JudgeUnavailable(f"no answer in {self._give_up_seconds} s from {[s.url for s in self._servers]}")
            ready = [server for server in self._servers if server.rests_until <= now]
            fresh = [server for server in ready if server.url not in tried] or ready
            if fresh:
                least = min(server.in_flight for server in fresh)
                return random.choice([server for server in fresh if server.in_flight == least])
            soonest = min(server.rests_until for server in self._servers)
            await asyncio.sleep(max(0.01, min(soonest, end) - now))

    async def _ask(self, server: Server, body: bytes) -> JudgeResult | None:
        """A server's answer; None if it has none, after which it rests."""
        server.in_flight += 1
        try:
            async with self._open().post(f"{server.url}/judge", data=body, timeout=self._timeout) as response:
                content = await response.read()
                if response.status == 200:
                    server.failures = 0
                    return msgspec.json.decode(content, type=JudgeResult)
                if response.status in (400, 401):
                    raise RequestRefused(content.decode(errors="replace"))
                if response.status in (429, 503):
                    # Spread the return of many clients over the time the server asked for.
                    server.rest(retry_after(response) * random.uniform(0.5, 1.5))
                else:
                    server.failed()
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
            server.failed()
        finally:
            server.in_flight -= 1
        return None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            token = os.environ.get(TOKEN)
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> "JudgeClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def retry_after(response: aiohttp.ClientResponse) -> float:
    try:
        return max(0.1, float(response.headers.get("Retry-After", "1")))
    except ValueError:
        return 1.0
