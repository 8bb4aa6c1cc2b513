"""One RL run: data, trainer, weights, engines and rewards brought up in that order, the loop, and down again."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

from megatron_mimo.config import RLConfig, UserError, to_yaml
from megatron_mimo.platform.files import write_text
from megatron_mimo.platform.signals import BY_HAND, end_by, handled, ignore_stop_signals
from megatron_mimo.platform.tracker_services import TrackedRun
from megatron_mimo.platform.trackers import Trackers, check_installed
from megatron_mimo.rl.engine_actor import RayRolloutEngine, start_all
from megatron_mimo.rl.loop import FINISHED, INTERRUPTED, PREEMPTED, RLLoop, restored_scheduler_state
from megatron_mimo.rl.policy_weights import BroadcastWeights, PolicyWeights
from megatron_mimo.rl.problem_reward import open_rewards
from megatron_mimo.rl.problems.problem import Problem
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.prompts import PromptEncoder, encode_problems, load_problems
from megatron_mimo.rl.rollout_log import RolloutLog
from megatron_mimo.rl.sample import Prompt
from megatron_mimo.rl.scheduler.policy import POLICIES
from megatron_mimo.rl.scheduler.scheduler import RolloutScheduler
from megatron_mimo.rl.trace import Trace
from megatron_mimo.rl.trainer_actors import TrainerGroup

WEIGHTS = {"folder": PolicyWeights, "broadcast": BroadcastWeights}
RAY_CPUS = 64
"""What a Ray of our own counts with. Its actors share the real ones; with those counted, some would never start."""


@dataclass(frozen=True)
class RunData:
    """What a run rolls out and how it is rewarded."""

    encoder: PromptEncoder
    problems: dict[str, Problem]
    train: list[Prompt]
    valid: list[Prompt]


def load_data(config: RLConfig) -> RunData:
    """Read and encode the problems. Raises UserError for files that do not fit together; starts nothing."""
    encoder = PromptEncoder(config.data)
    train, valid = load_problems(config.data.train), load_problems(config.data.valid)
    both = train.keys() & valid.keys()
    if both:
        raise UserError(f"{len(both)} problems are in data.train and in data.valid, for example {min(both)!r}")
    longest = config.data.max_prompt_tokens
    return RunData(
        encoder,
        train | valid,
        encode_problems(train.values(), encoder, longest),
        encode_problems(valid.values(), encoder, longest),
    )


async def train(config: RLConfig, command: str) -> str:
    """Run to the end; returns FINISHED, or PREEMPTED by a scheduler, or INTERRUPTED by a person.

    The run resumes by itself from its newest good checkpoint.
    """
    check_installed(config.logging.trackers)
    data = load_data(config)
    output_dir = Path(config.output_dir)
    async with AsyncExitStack() as stack:
        stack.enter_context(ray_session())
        trainer = await stack.enter_async_context(started_trainer(config))
        config = trainer.config
        restored = await trainer.restore()
        step, driver_state = restored if restored is not None else (0, None)
        write_run_files(output_dir, config, command)
        trackers = Trackers(config.logging.trackers, TrackedRun(config.name, output_dir, asdict(config)))
        trace = Trace(output_dir, config.num_steps, step, trackers=trackers)
        stack.callback(trace.close)
        trace.say(f"{config.name} {f'resumes after step {step}' if step else 'starts'} -> {output_dir}")
        weights = WEIGHTS[config.engine.weight_transfer](Path(config.engine.weights_folder), config.name)
        stack.callback(weights.close)
        folder = await weights.write(trainer, step)
        engines = await stack.enter_async_context(started_engines(config, folder, step))
        reward = await stack.enter_async_context(open_rewards(config.reward, data.problems, data.encoder.decode))
        prompts = PromptSampler(
            data.train, alpha=config.data.easy_pool_alpha, drop_solved=config.data.drop_solved, seed=config.seed
        )
        settings = replace(config.rollout, seed=config.seed)
        scheduler = RolloutScheduler(engines, reward, prompts, settings, POLICIES[config.scheduling])
        if driver_state is not None:
            scheduler.load_state_dict(restored_scheduler_state(output_dir, step, driver_state))
        loop = RLLoop(
            config,
            trainer=trainer,
            engines=engines,
            reward=reward,
            prompts=prompts,
            validation_prompts=data.valid,
            scheduler=scheduler,
            weights=weights,
            trace=trace,
            step=step,
            rollouts=RolloutLog(output_dir, data.problems, data.encoder.decode, config.keep_rollout_steps),
        )
        with stopped_by_signals(loop.stop) as received:
            reason = await loop.fit()
        ignore_stop_signals()
        if reason == PREEMPTED and received[0] in BY_HAND:
            reason = INTERRUPTED
        trace.say(f"run ends: {reason}" + (f"; resume with: {command}" if reason != FINISHED else ""))
        return reason


@contextmanager
def ray_session() -> Iterator[None]:
    """The cluster that RAY_ADDRESS names, or a Ray of this machine's own that ends with the context."""
    import ray

    # Ray gives its workers low priority: on a shared machine the judge's programs would starve engines and trainer.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray would start a Python process for every CPU at once; each of our actors has one with its own environment.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": RAY_CPUS, "include_dashboard": False}
    ray.init(log_to_driver=True, logging_level=logging.WARNING, **local)
    try:
        yield
    finally:
        ray.shutdown()


@asynccontextmanager
async def started_trainer(config: RLConfig) -> AsyncIterator[TrainerGroup]:
    """The trainer's ranks, ended with the context."""
    trainer = TrainerGroup(config)
    try:
        await trainer.start()
        yield trainer
    finally:
        await trainer.close()


@asynccontextmanager
async def started_engines(config: RLConfig, folder: Path, version: int) -> AsyncIterator[list[RayRolloutEngine]]:
    """config.engine.num_engines engines on the weights of `folder`, ended with the context."""
    numbers = range(config.engine.num_engines)
    engines = [RayRolloutEngine(f"engine {number}", folder, config.engine, version) for number in numbers]
    await start_all(engines)
    try:
        yield engines
    finally:
        for engine in engines:
            engine.close()


@contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Iterator[list[str]]:
    """Ctrl-C, SIGTERM and SIGUSR1 (how Slurm announces the end of the time limit) set `stop`; yields their names.

    A second Ctrl-C ends the driver at once, and Ray's processes with it.
    """
    loop, received = asyncio.get_running_loop(), []

    def ask(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            end_by(number)
        received.append(signal.Signals(number).name)
        # Wakes the loop, which a signal alone does not.
        loop.call_soon_threadsafe(stop.set)

    with handled(ask):
        yield received


def write_run_files(output_dir: Path, config: RLConfig, command: str) -> None:
    """config.yaml and command.txt: the folder alone can start the run again."""
    output_dir.mkdir(parents=True, exist_ok=True)
    write_text(output_dir / "config.yaml", to_yaml(config))
    write_text(output_dir / "command.txt", command + "\n")
