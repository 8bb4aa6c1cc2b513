"""The judge of one machine: a fixed number of slots, each judging one solution at a time."""

import asyncio
import os
import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from megatron_mimo.config.judge import JudgeConfig
from megatron_mimo.judge.bubblewrap import SandboxUnavailable, find_host
from megatron_mimo.judge.compiler import Compiler
from megatron_mimo.judge.request import JudgeRequest, Limits, Solution, Test
from megatron_mimo.judge.result import JudgeResult
from megatron_mimo.judge.runner import Answer, ProgramRun, Runner
from megatron_mimo.judge.sandbox import Sandbox, SandboxDied

FIRST_UID, NUM_UIDS = 20_000, 40_000


class JudgePool:
    """`await pool.judge(...)` or `pool.judge_now(...)`; close it, or use it in a `with` block.

    Not guaranteed: that a cancelled `judge` stops at once. Its slot finishes the solution, within the limits.
    """

    def __init__(self, config: JudgeConfig | None = None) -> None:
        """Try one sandbox. Raises SandboxUnavailable where programs cannot be held, naming what to do."""
        self.config = config or JudgeConfig()
        self._host = find_host(self.config)
        self._compiler = Compiler(self.config, self._host)
        self._uids: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(self.config.slots):
            # Another uid for every slot of every pool on the machine: RLIMIT_NPROC counts by uid.
            self._uids.put(FIRST_UID + (os.getpid() * 64 + slot) % NUM_UIDS)
        self._check()
        self._threads = ThreadPoolExecutor(self.config.slots, thread_name_prefix="judge")

    async def judge(
        self,
        solution: Solution,
        tests: list[Test],
        *,
        limits: Limits | None = None,
        levels: list[int] | None = None,
        stop_at_first_failure: bool = False,
    ) -> JudgeResult:
        """Verdicts of `solution` on `tests`. Raises ConfigError for a request that makes no sense."""
        request = JudgeRequest(
            solution=solution,
            tests=tests,
            limits=limits or Limits(),
            levels=levels,
            stop_at_first_failure=stop_at_first_failure,
        )
        return await asyncio.wrap_future(self.submit(request))

    def judge_now(self, solution: Solution, tests: list[Test], **options: object) -> JudgeResult:
        """The same, blocking; options as for `judge`."""
        return self.submit(JudgeRequest(solution=solution, tests=tests, **options)).result()  # type: ignore[arg-type]

    def submit(self, request: JudgeRequest) -> Future[JudgeResult]:
        """Queue a request. Raises ConfigError at once for one that makes no sense."""
        request.check()
        return self._threads.submit(self._work, request, Runner.judge)

    def run(self, solution: Solution, stdin: str, limits: Limits) -> Future[ProgramRun]:
        """Queue a program to be run on `stdin`, without tests."""
        request = JudgeRequest(solution=solution, tests=[], limits=limits)
        return self._threads.submit(self._work, request, lambda runner: runner.run_once(stdin))

    def _work(self, request: JudgeRequest, action: Callable[[Runner], Answer]) -> Answer:
        uid = self._uids.get()
        try:
            return action(Runner(self.config, self._host, self._compiler, uid, request))
        finally:
            self._uids.put(uid)

    def _check(self) -> None:
        try:
            Sandbox(self._host, Limits(), FIRST_UID, []).close()
        except SandboxDied as error:
            raise SandboxUnavailable(
                f"bubblewrap cannot make a sandbox here: {error}\n"
                "As an ordinary user it needs user namespaces (sysctl user.max_user_namespaces > 0; on Ubuntu also "
                "kernel.apparmor_restrict_unprivileged_userns=0); as root it needs CAP_SYS_ADMIN (in a container: "
                "--cap-add SYS_ADMIN --security-opt seccomp=unconfined). Programs are never run without a sandbox."
            ) from error

    def close(self) -> None:
        """Finish what is running, drop what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "JudgePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
