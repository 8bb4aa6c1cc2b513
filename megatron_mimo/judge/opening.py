"""The judge that settings name: servers, or this machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from megatron_mimo.config.judge import JudgeConfig
from megatron_mimo.judge.client import JudgeClient
from megatron_mimo.judge.pool import JudgePool


def make_judge(urls: list[str], local: JudgeConfig) -> JudgeClient | JudgePool:
    """A client of the servers at `urls`; without any a pool on this machine, which raises SandboxUnavailable where
    programs cannot be held."""
    return JudgeClient(urls) if urls else JudgePool(local)


@asynccontextmanager
async def open_judge(urls: list[str], local: JudgeConfig) -> AsyncIterator[JudgeClient | JudgePool]:
    """`make_judge`, closed at the end."""
    judge = make_judge(urls, local)
    try:
        yield judge
    finally:
        if isinstance(judge, JudgeClient):
            await judge.close()
        else:
            judge.close()
