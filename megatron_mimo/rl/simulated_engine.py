"""An engine and a reward that take time and do nothing: for simulations in virtual time and tests.

All requests of an engine advance together, one token a decoding step; a step takes longer the more requests there are.
That is a processor-sharing queue: with P the tokens each request has advanced since the start, a request that arrives
at P0 with n tokens to go ends when P reaches P0 + n, so one heap and one timer an engine suffice.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from megatron_mimo.rl.engine_protocol import EngineDied, Generation, GenerationRequest, Score
from megatron_mimo.rl.sample import Prompt, Sample


@dataclass(frozen=True, kw_only=True)
class DecodingSpeed:
    """Seconds of a decoding step with b requests: weights_seconds + b * request_seconds."""

    weights_seconds: float = 0.005
    """Reading the weights: what a step costs however few requests there are."""
    request_seconds: float = 0.0003
    """Reading one request's keys and values."""

    def tokens_per_second(self, num_requests: int) -> float:
        """Of each request."""
        return 1 / (self.weights_seconds + num_requests * self.request_seconds)


class SimulatedEngine:
    """`respond` gives what a request will produce; producing it takes the time that its length and the load cost."""

    def __init__(
        self,
        name: str,
        respond: Callable[[GenerationRequest], Generation],
        speed: DecodingSpeed | None = None,
        *,
        max_concurrent_requests: int = 256,
        restart_seconds: float = 60.0,
    ) -> None:
        self.name, self.max_concurrent_requests = name, max_concurrent_requests
        self._respond, self._speed, self._restart_seconds = respond, speed or DecodingSpeed(), restart_seconds
        self._alive = True
        self.failing_restarts = 0
        """Restarts that will fail, from now on."""
        self._advanced = self._last_seconds = 0.0
        self._ends: list[tuple[float, int, asyncio.Future[None]]] = []
        self._num_active = 0
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def generate(self, request: GenerationRequest) -> Generation:
        if not self._alive:
            raise EngineDied(self.name)
        generation = self._respond(request)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._advance()
        heapq.heappush(self._ends, (self._advanced + len(generation.tokens), next(self._numbers), future))
        self._num_active += 1
        self._set_timer()
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._advance()
                self._num_active -= 1
                self._set_timer()
            raise
        return generation

    def kill(self) -> None:
        """Die with everything that runs."""
        self._alive, futures = False, [future for _, _, future in self._ends if not future.done()]
        self._ends, self._num_active = [], 0
        for future in futures:
            future.set_exception(EngineDied(self.name))

    def abandon(self) -> None:
        """An engine that hangs is ended."""
        self.kill()

    async def restart(self) -> None:
        await asyncio.sleep(self._restart_seconds)
        if self.failing_restarts:
            self.failing_restarts -= 1
            raise EngineDied(f"{self.name} does not come back")
        self._alive = True

    def _advance(self) -> None:
        """Bring the progress up to the present."""
        now = asyncio.get_running_loop().time()
        if self._num_active:
            self._advanced += (now - self._last_seconds) * self._speed.tokens_per_second(self._num_active)
        self._last_seconds = now

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._ends and self._ends[0][2].done():
            heapq.heappop(self._ends)
        if self._ends:
            tokens = max(0.0, self._ends[0][0] - self._advanced)
            delay = tokens / self._speed.tokens_per_second(self._num_active)
            self._timer = asyncio.get_running_loop().call_later(delay, self._finish_first)

    def _finish_first(self) -> None:
        self._timer = None
        if not self._ends:
            return
        self._advance()
        # The timer was set for the first end: rounding must not leave it a billionth of a token short.
        self._advanced = max(self._advanced, self._ends[0][0])
        while self._ends and (self._ends[0][0] <= self._advanced or self._ends[0][2].done()):
            future = heapq.heappop(self._ends)[2]
            if not future.done():
                self._num_active -= 1
                future.set_result(None)
        self._set_timer()


class SimulatedReward:
    """`judge` gives the score, `latency_seconds` the time that a worker takes for it.

    With `num_workers` samples wait in a queue until one of so many workers is free; without, every sample has its own.
    """

    def __init__(
        self,
        judge: Callable[[Prompt, Sample], Score],
        latency_seconds: Callable[[Prompt, Sample], float],
        num_workers: int | None = None,
    ) -> None:
        self._judge, self._latency_seconds = judge, latency_seconds
        self._workers = contextlib.nullcontext() if num_workers is None else asyncio.Semaphore(num_workers)

    async def score(self, prompt: Prompt, sample: Sample) -> Score:
        async with self._workers:
            await asyncio.sleep(self._latency_seconds(prompt, sample))
        return self._judge(prompt, sample)
