"""The judge over HTTP: answers, back-pressure, metrics, SandboxFusion's form, and servers that die."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from megatron_mimo.judge import JudgeConfig, JudgePool, JudgeResult, Solution, StdioTest, Verdict
from megatron_mimo.judge import TestResult as Result
from megatron_mimo.judge.client import JudgeClient, JudgeUnavailable, RequestRefused
from megatron_mimo.judge.server import JudgeServer
from megatron_mimo.platform.network import free_port

pytestmark = pytest.mark.slow

needs_sandbox = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
ROOT = Path(__file__).parents[2]
DOUBLE = Solution(source="print(2 * int(input()))")
TESTS = [StdioTest(stdin="4", stdout="8"), StdioTest(stdin="5", stdout="11")]


@contextlib.asynccontextmanager
async def served(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def pool() -> Iterator[JudgePool]:
    with JudgePool(JudgeConfig(num_slots=1, max_queue=1)) as pool:
        yield pool


def answering(*statuses: int, body: bytes = b"", retry_after: str = "0.1") -> tuple[web.Application, list[int]]:
    """A server that gives these statuses in turn, the last one for ever, and a list of what it gave."""
    given: list[int] = []

    async def judge(_: web.Request) -> web.Response:
        given.append(statuses[min(len(given), len(statuses) - 1)])
        return web.Response(status=given[-1], headers={"Retry-After": retry_after}, body=body)

    application = web.Application()
    application.router.add_post("/judge", judge)
    return application, given


def encoded(verdict: Verdict) -> bytes:
    return msgspec.json.encode(JudgeResult.of([Result(verdict=verdict)]))


@needs_sandbox
def test_client_and_server_agree_with_the_pool(pool: JudgePool) -> None:
    async def go() -> None:
        async with served(JudgeServer(pool).application()) as url, JudgeClient([url]) as client:
            result = await client.judge(DOUBLE, TESTS)
            assert result.passed == pool.judge_now(DOUBLE, TESTS).passed == [True, False]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"{url}/health") as response:
                    assert (await response.json()) == {"status": "ok", "slots": 1, "running": 0, "waiting": 0}
                async with session.get(f"{url}/metrics") as response:
                    text = await response.text()
                assert 'judge_tests_total{verdict="accepted"} 1.0' in text
                assert 'judge_solutions_total{verdict="wrong_answer"} 1.0' in text
                async with session.post(f"{url}/judge", data=b'{"solution": {"sauce": ""}}') as response:
                    assert response.status == 400
                    assert "source" in await response.text()

    asyncio.run(go())


@needs_sandbox
def test_a_full_queue_answers_429_and_the_client_waits(pool: JudgePool) -> None:
    slow = Solution(source="import time\ntime.sleep(0.4)\nprint(8)")

    async def go() -> None:
        async with served(JudgeServer(pool).application()) as url, JudgeClient([url]) as client:
            results = await asyncio.gather(*[client.judge(slow, TESTS[:1]) for _ in range(5)])
            assert [result.verdict for result in results] == [Verdict.ACCEPTED] * 5
            async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
                refused = next(
                    line
                    for line in (await response.text()).splitlines()
                    if line.startswith("judge_refused_requests_total")
                )
            assert float(refused.split()[1]) > 0

    asyncio.run(go())


@needs_sandbox
@pytest.mark.parametrize(
    ("request_", "status", "stdout", "run_status"),
    [
        ({"code": "print(input() * 2)", "language": "python", "stdin": "ab"}, "Success", "abab\n", "Finished"),
        ({"code": "import sys; sys.exit(3)", "language": "python"}, "Failed", "", "Finished"),
        ({"code": "while True: pass", "language": "python", "run_timeout": 0.5}, "Failed", "", "TimeLimitExceeded"),
        ({"code": "print(", "language": "python"}, "Failed", None, None),
        ({"code": "int main({", "language": "cpp"}, "Failed", None, None),
    ],
)
def test_sandbox_fusion_form(pool: JudgePool, request_: dict, status: str, stdout: str | None, run_status) -> None:
    async def go() -> dict:
        async with (
            served(JudgeServer(pool).application()) as url,
            aiohttp.ClientSession() as session,
            session.post(f"{url}/run_code", json=request_) as response,
        ):
            assert response.status == 200
            return await response.json()

    answer = asyncio.run(go())
    assert answer["status"] == status
    if run_status is None:
        assert answer["run_result"] is None and answer["compile_result"]["status"] == "Error"
    else:
        assert (answer["run_result"]["stdout"], answer["run_result"]["status"]) == (stdout, run_status)


def test_refused_requests_are_not_repeated() -> None:
    async def go() -> list[int]:
        application, given = answering(400, body=b"tests = []: at least one")
        async with served(application) as url, JudgeClient([url]) as client:
            with pytest.raises(RequestRefused, match="at least one"):
                await client.judge(DOUBLE, TESTS)
        return given

    assert asyncio.run(go()) == [400]


@pytest.mark.parametrize("broken", [(500,), (503,), (200,)])
def test_a_broken_server_is_left_for_another(broken: tuple[int, ...]) -> None:
    """500, 503, and a 200 whose body is no answer; every request ends with the sound server's verdict."""

    async def go() -> list[JudgeResult]:
        bad, _ = answering(*broken, body=b"no answer")
        good, _ = answering(200, body=encoded(Verdict.ACCEPTED))
        async with served(bad) as a, served(good) as b, JudgeClient([a, b, "http://127.0.0.1:9"]) as client:
            return list(await asyncio.gather(*[client.judge(DOUBLE, TESTS) for _ in range(20)]))

    assert {result.verdict for result in asyncio.run(go())} == {Verdict.ACCEPTED}


def test_judge_faults_are_tried_elsewhere_and_never_become_wrong_answers() -> None:
    async def go(other: bytes) -> JudgeResult:
        bad, _ = answering(200, body=encoded(Verdict.JUDGE_FAULT))
        good, _ = answering(200, body=other)
        async with served(bad) as a, served(good) as b, JudgeClient([a, b], max_faults=3) as client:
            return await client.judge(DOUBLE, TESTS)

    assert asyncio.run(go(encoded(Verdict.ACCEPTED))).verdict is Verdict.ACCEPTED
    fault = asyncio.run(go(encoded(Verdict.JUDGE_FAULT)))
    assert fault.verdict is Verdict.JUDGE_FAULT
    with pytest.raises(ValueError, match="judge failed"):
        _ = fault.passed


def test_without_any_server_it_gives_up_with_an_error() -> None:
    async def go() -> None:
        async with JudgeClient(["http://127.0.0.1:9"], give_up_seconds=0.8) as client:
            await client.judge(DOUBLE, TESTS)

    with pytest.raises(JudgeUnavailable):
        asyncio.run(go())


def start_server() -> tuple[subprocess.Popen, str]:
    port = free_port()
    command = [sys.executable, str(ROOT / "tools/judge_server.py"), "--port", str(port), "--slots", "1"]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    return process, f"http://127.0.0.1:{port}"


@needs_sandbox
def test_a_server_killed_in_the_middle_loses_no_answer() -> None:
    """Two server processes, one killed with work in hand: every answer arrives and is right."""
    (first, a), (second, b) = start_server(), start_server()

    async def go() -> list[JudgeResult]:
        async with JudgeClient([a, b], give_up_seconds=120) as client:
            await asyncio.gather(*[client.judge(DOUBLE, TESTS) for _ in range(4)])
            tasks = [
                asyncio.create_task(
                    client.judge(
                        Solution(source=f"import time\ntime.sleep(0.1)\nprint({n})"), [StdioTest(stdin="", stdout="3")]
                    )
                )
                for n in range(12)
            ]
            await asyncio.sleep(0.4)
            first.send_signal(signal.SIGKILL)
            return list(await asyncio.gather(*tasks))

    try:
        results = asyncio.run(go())
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    assert [result.passed for result in results] == [[n == 3] for n in range(12)]
    time.sleep(0.3)
