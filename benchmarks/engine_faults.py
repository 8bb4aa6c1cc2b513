"""Engines that hang, crawl, flap or never come back, as real vLLM processes: does the run continue, and how fast?

    python benchmarks/engine_faults.py --model MODEL_DIR        # an exported nano model; about 10 minutes on two cores

Two sound engines take the same steps alone, before and after, and beside a third one with a trouble:

| trouble | what is done to it |
|---|---|
| silent | its processes are stopped (SIGSTOP) as soon as it has started, and again after every restart |
| slow | its processes run for a tenth of the time (SIGSTOP and SIGCONT) |
| flapping | vLLM's process is killed some seconds after every start |
| never back | it is killed in the first step, and its restart hangs |

Responses are sampled at temperature 1 and rewarded by the parity of their tokens, so nearly every group has a signal.
The bar: at most 1.3 times the time of the sound engines alone, every launched group with exactly one outcome, none lost
to a fault. Restarts take processor time from the sound engines where all share few cores, as on a laptop.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.config.rl import EngineConfig, GenerationConfig, RetryConfig, RolloutConfig
from megatron_mimo.rl.engine_actor import RayRolloutEngine, start_all
from megatron_mimo.rl.engine_protocol import Score
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Outcome, Prompt, Sample
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch, RolloutScheduler
from megatron_mimo.serve.speculative import read_model_config

BAR = 1.3
TICK_SECONDS = 0.2
SLOW_SHARE = 0.1
"""Of the time that a slow engine's processes run."""


class TroubledEngine(RayRolloutEngine):
    """An engine that a thread torments from its start to `calm()`."""

    trouble = ""
    flap_seconds = 6.0
    closed = False

    async def start(self) -> None:
        await super().start()
        self._begin()

    async def restart(self) -> None:
        if self.trouble == "never back":
            await asyncio.Event().wait()
        await super().restart()
        if self.closed:  # The scenario ended while it was starting.
            super().close()
        self._begin()

    def _begin(self) -> None:
        """Torment the present processes for as long as they are the present ones."""
        processes = self.process_ids
        threading.Thread(target=self._torment, args=(processes,), daemon=True).start()

    def _torment(self, processes: list[int]) -> None:
        since = time.monotonic()
        if self.trouble == "never back":
            time.sleep(TICK_SECONDS)
            send(processes, signal.SIGKILL)
        while self.process_ids == processes:
            match self.trouble:
                case "silent":
                    send(processes, signal.SIGSTOP)
                case "slow":
                    send(processes, signal.SIGSTOP)
                    time.sleep(TICK_SECONDS * (1 - SLOW_SHARE))
                    send(processes, signal.SIGCONT)
                case "flapping" if time.monotonic() - since > self.flap_seconds:
                    send(processes[-1:], signal.SIGKILL)
                    return
            time.sleep(TICK_SECONDS * (SLOW_SHARE if self.trouble == "slow" else 1))
        if self.trouble in ("silent", "slow"):
            send(processes, signal.SIGCONT)

    def end(self) -> None:
        """For good."""
        self.closed = True
        self.close()

    def close(self) -> None:
        """Ended whatever its state: a stopped process does not answer Ray."""
        processes = self.process_ids
        super().close()
        send(processes, signal.SIGKILL)


def send(processes: list[int], what: signal.Signals) -> None:
    """A signal to processes, some of which may have ended."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, what)


class ParityReward:
    """Different among a prompt's samples, the same for the same sample."""

    async def score(self, prompt: Prompt, sample: Sample) -> Score:
        odd = float(sum(sample.tokens) % 2)
        return Score(reward=odd, solved=bool(odd))


async def steps(engines: list[RayRolloutEngine], options: argparse.Namespace) -> tuple[float, list[RolloutBatch]]:
    """(seconds, batches) of the same steps over some engines. Raises AssertionError where a group's count is wrong."""
    retry = RetryConfig(delay_seconds=0.5, restart_timeout_seconds=60, max_restarts=2, max_generation_attempts=20)
    settings = RolloutConfig(
        num_groups=options.groups,
        samples_per_prompt=options.samples,
        generation=GenerationConfig(max_new_tokens=options.max_new_tokens),
        retry=retry,
        survival_prior=0.9,
    )
    prompts = [Prompt(id=f"{n}", tokens=(5 + n % 90, 6 + n // 90, 17)) for n in range(1000)]
    scheduler = RolloutScheduler(engines, ParityReward(), PromptSampler(prompts, alpha=0.0), settings)
    started = time.monotonic()
    batches = [await scheduler.collect() for _ in range(options.steps)]
    seconds = time.monotonic() - started
    groups = [group for batch in batches for group in batch.groups]
    assert [group.launch_index for group in groups] == list(range(scheduler.num_launched))
    assert Counter(group.outcome for group in groups) == scheduler.totals
    assert scheduler.totals[Outcome.FAULTED] == 0, scheduler.totals
    for batch in batches:
        assert len({group.launch_index for group in batch.selected}) == options.groups
        assert all(group.complete for group in batch.selected)
    return seconds, batches


@contextlib.contextmanager
def ray_running() -> Iterator[None]:
    import ray

    ray.init(num_cpus=6, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    try:
        yield
    finally:
        ray.shutdown()


async def measure(options: argparse.Namespace) -> int:
    """Print the table; the exit code."""
    config = EngineConfig(max_concurrent_requests=options.seats, memory_bytes=1 << 28)
    folder = options.model.resolve()
    sound = [RayRolloutEngine(f"sound-{index}", folder, config) for index in range(2)]
    worst = 0.0
    try:
        await start_all(sound)
        await steps(sound, argparse.Namespace(**{**vars(options), "steps": 1}))
        before, _ = await steps(sound, options)
        print(f"sound engines alone: {before:.1f} s", flush=True)
        for trouble in options.troubles:
            engine = TroubledEngine(trouble, folder, config)
            engine.trouble = trouble
            await engine.start()
            try:
                seconds, batches = await steps([*sound, engine], options)
            finally:
                engine.end()
            alone, _ = await steps(sound, options)
            ratio = seconds / ((before + alone) / 2)
            worst, before = max(worst, ratio), alone
            found = batches[-1].engines[-1]
            print(
                f"{trouble:12} {seconds:6.1f} s, sound engines alone afterwards {alone:6.1f} s: {ratio:.2f}x; "
                f"the engine: {found.state}, {found.finished} responses, {found.deaths} deaths, {found.silences} "
                f"silences, {found.timeouts} time-outs, {found.restarts} restarts",
                flush=True,
            )
    finally:
        for engine in sound:
            engine.close()
    print(f"worst: {worst:.2f}x, {'within' if worst <= BAR else 'above'} {BAR}x; no group lost or counted twice")
    return 0 if worst <= BAR else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of an exported model")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--groups", type=int, default=32, help="groups per step")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seats", type=int, default=16, help="requests an engine takes at a time")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--troubles", nargs="+", default=["silent", "slow", "flapping", "never back"])
    options = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        read_model_config(options.model)
        with ray_running():
            return asyncio.run(measure(options))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
