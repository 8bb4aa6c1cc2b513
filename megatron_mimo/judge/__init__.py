"""Judging programs that models wrote: sandbox, verdicts, a pool of slots, an HTTP server and its client."""

from megatron_mimo.config.judge import JudgeConfig
from megatron_mimo.judge.bubblewrap import SandboxUnavailable
from megatron_mimo.judge.pool import JudgePool
from megatron_mimo.judge.request import AssertTest, CallTest, JudgeRequest, Limits, Solution, StdioTest, Test
from megatron_mimo.judge.result import JudgeResult, TestResult, Verdict

__all__ = [
    "AssertTest",
    "CallTest",
    "JudgeConfig",
    "JudgePool",
    "JudgeRequest",
    "JudgeResult",
    "Limits",
    "SandboxUnavailable",
    "Solution",
    "StdioTest",
    "Test",
    "TestResult",
    "Verdict",
]
