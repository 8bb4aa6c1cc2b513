"""How long a run will take here, from a few real steps of every stage's shape, before it starts.

Nothing is kept: neither weights nor files. A step takes a fixed time and a time for each micro-batch; where a stage's
batch is large, both come from two short measurements, so that no whole step of thousands of micro-batches is needed.
"""

import hashlib
import itertools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from megatron.core import parallel_state

from megatron_mimo.config import StageConfig, TrainingConfig
from megatron_mimo.model.build import set_rotary_base
from megatron_mimo.platform.formats import format_count, format_seconds
from megatron_mimo.training.batch import Batch
from megatron_mimo.training.callbacks import ReportWriter
from megatron_mimo.training.checkpoint_files import CHECKPOINTS, complete_checkpoints
from megatron_mimo.training.checkpoint_record import read_record
from megatron_mimo.training.disk import checkpoint_bytes, disk_need, saves_left
from megatron_mimo.training.evaluation import Evaluator
from megatron_mimo.training.feed import StageFeed, micro_batches_of_step
from megatron_mimo.training.measure import StepTimer
from megatron_mimo.training.optimizer import apply_update, gradient_norm, set_learning_rate
from megatron_mimo.training.schedule import Schedule
from megatron_mimo.training.state import Progress
from megatron_mimo.training.trainer import Trainer

MEASURED_SECONDS, MIN_STEPS, MAX_STEPS = 2.0, 3, 10
"""A shape's steps beyond the first, which warms up, are measured so long or so often."""
PROBE_BYTES = 32 << 20
REPORT_SECONDS = 2.5
"""Drawing the report once, on one core."""


@dataclass(frozen=True)
class StepCost:
    """Seconds of a step of so many micro-batches per rank."""

    fixed_seconds: float
    micro_batch_seconds: float

    def seconds(self, micro_batches: int) -> float:
        return self.fixed_seconds + micro_batches * self.micro_batch_seconds


@dataclass(frozen=True)
class StageRest:
    """What is still to come of a stage."""

    stage: int
    """Its number."""
    start_tokens: int
    """Consumed before."""
    steps: list[tuple[int, int]]
    """(global batch size, steps with it), in order."""


@dataclass(frozen=True)
class StageForecast:
    name: str
    tokens: int
    """Still to come."""
    seconds: float
    """Of its steps."""


@dataclass(frozen=True)
class Forecast:
    """Seconds that the rest of a run takes here."""

    stages: list[StageForecast]
    start_seconds: float
    evaluations: int
    evaluation_seconds: float
    """Of all, with the reports that follow them."""
    checkpoints: int
    checkpoint_seconds: float
    """Of all."""

    @property
    def seconds(self) -> float:
        steps = sum(stage.seconds for stage in self.stages)
        return self.start_seconds + steps + self.evaluation_seconds + self.checkpoint_seconds

    @property
    def text(self) -> str:
        """Lines for a person; the last one has the total in seconds too."""
        lines = []
        for stage in self.stages:
            pace = f"{format_count(stage.tokens / stage.seconds)} tokens/s" if stage.seconds else ""
            lines.append((stage.name, f"{format_count(stage.tokens)} tokens", pace, stage.seconds))
        lines.append(("evaluation", f"{self.evaluations} times", "", self.evaluation_seconds))
        lines.append(("checkpoints", f"{self.checkpoints}", "", self.checkpoint_seconds))
        lines.append(("start-up", "", "", self.start_seconds))
        text = [
            f"  {name:<14}{amount:>14}{pace:>18}   {format_seconds(seconds)}" for name, amount, pace, seconds in lines
        ]
        return "\n".join([*text, f"forecast: {format_seconds(self.seconds)} ({self.seconds:.0f} seconds)"])


def print_forecast(trainer: Trainer) -> None:
    """Measure, and say it on rank 0. Every rank calls it."""
    if dist.get_rank() == 0:
        ranks = dist.get_world_size()
        print(f"measuring a few steps of {trainer.config.name} on {ranks} process(es) here ...", flush=True)
    found = forecast(trainer)
    if dist.get_rank() == 0:
        need = disk_need(trainer.config, Path(trainer.config.output_dir))
        print(f"{found.text}\nup to {need.bytes / 1e6:,.0f} MB in {trainer.config.output_dir}", flush=True)
        if trainer.config.evaluation.scores:
            print("without evaluation.scores, whose time depends on the answers")


def forecast(trainer: Trainer) -> Forecast:
    """The rest of the run from its newest checkpoint on. A collective."""
    start_seconds = time.time() - psutil.Process().create_time()
    config, schedule = trainer.config, trainer.schedule
    done = _done(trainer)
    costs: dict[tuple[int, int, int], StepCost] = {}
    stages, count, evaluation_seconds = [], 0, 0.0
    for rest in rest_of_run(config, schedule, done):
        stage = config.stages[rest.stage]
        shape = (stage.seq_length, stage.micro_batch_size, stage.global_batch_size)
        costs[shape] = costs.get(shape) or _step_cost(trainer, rest)
        seconds = sum(steps * costs[shape].seconds(micro_batches_of_step(stage, batch)) for batch, steps in rest.steps)
        tokens = sum(steps * batch * stage.seq_length for batch, steps in rest.steps)
        stages.append(StageForecast(stage.name, tokens, seconds))
        times = evaluations(config, schedule.stage_end(rest.stage), rest.start_tokens, tokens)
        if times:
            count += times
            evaluation_seconds += times * _evaluation_seconds(trainer, rest)
    # Evaluations are followed by a report, but not more often than so, and the end always is.
    reports = 1 + min(count, int(sum(stage.seconds for stage in stages) / ReportWriter.MIN_SECONDS))
    evaluation_seconds += reports * REPORT_SECONDS
    saves = saves_left(config.checkpoint, min(schedule.total_steps, config.max_steps or schedule.total_steps), done)
    save_seconds = saves * _save_seconds(trainer) if saves else 0.0
    return Forecast(stages, start_seconds, count, evaluation_seconds, saves, save_seconds)


def rest_of_run(config: TrainingConfig, schedule: Schedule, done: int) -> list[StageRest]:
    """What comes after step `done`, up to max_steps."""
    rests: dict[int, StageRest] = {}
    for run in schedule.step_runs():
        first = max(run.first_step, done + 1)
        end = min(run.first_step + run.steps, (config.max_steps or schedule.total_steps) + 1)
        if first < end:
            passed = (first - run.first_step) * run.global_batch_size * config.stages[run.stage].seq_length
            rest = rests.setdefault(run.stage, StageRest(run.stage, run.consumed_tokens + passed, []))
            rest.steps.append((run.global_batch_size, end - first))
    return list(rests.values())


def _done(trainer: Trainer) -> int:
    """Steps of the newest checkpoint in the run's folder."""
    answer = [0]
    if dist.get_rank() == 0:
        found = complete_checkpoints(Path(trainer.config.output_dir) / CHECKPOINTS, hash_files=False)
        answer = [read_record(found[-1]).progress.step if found else 0]
    dist.broadcast_object_list(answer, src=0)
    return answer[0]


def _step_cost(trainer: Trainer, rest: StageRest) -> StepCost:
    """Measured on the first micro-batches of the stage, again and again."""
    config, stage = trainer.config, trainer.config.stages[rest.stage]
    start = Progress(consumed_tokens=rest.start_tokens, stage=rest.stage)
    models: list[Any] = [chunk.module for chunk in trainer.chunks]
    set_rotary_base(models, stage.rotary_base)
    whole = micro_batches_of_step(stage, trainer.schedule.global_batch_size(start.consumed_tokens))
    few = min(whole, config.parallel.pipeline_model_parallel_size)
    more = min(whole, 2 * few)
    feed = StageFeed(config, trainer.data, trainer.schedule, start, trainer.backend)
    batches = list(itertools.islice(feed.batches(StepTimer()), more))

    def run_step(micro_batches: int) -> float:
        return _step_seconds(trainer, start, batches[:micro_batches], feed.model_shape)

    warm_up = run_step(few)
    long = _typical(lambda: run_step(more), warm_up)
    if more == few:
        return StepCost(0.0, long / few)
    short = min(_typical(lambda: run_step(few), warm_up), long)
    each = (long - short) / (more - few)
    return StepCost(long - more * each, each)


def _step_seconds(trainer: Trainer, start: Progress, batches: list[Batch], shape: tuple[int, int]) -> float:
    """Of one step, the update of the weights included; `shape` is what the feed says of its batches."""
    schedule = trainer.schedule
    trainer.step.mtp_loss_scaling_factor = schedule.mtp_loss_scaling_factor(start.consumed_tokens)
    set_learning_rate(trainer.optimizer, schedule.learning_rate(start.consumed_tokens))
    dist.barrier()
    timer = StepTimer()
    trainer.optimizer.zero_grad()
    trainer.step.backward(iter(batches), len(batches), shape)
    norm = gradient_norm(trainer.optimizer)
    if math.isfinite(norm):
        apply_update(trainer.optimizer, norm, trainer.config.optimizer.clip_grad)
    return timer.seconds


def _typical(measure: Callable[[], float], expected_seconds: float) -> float:
    """Median seconds, on the slowest rank, of as many calls as the time allows; every rank makes as many."""
    wanted = torch.tensor(expected_seconds, device=torch.cuda.current_device())
    dist.all_reduce(wanted, op=dist.ReduceOp.MAX)
    calls = min(max(math.ceil(MEASURED_SECONDS / max(float(wanted), 1e-3)), MIN_STEPS), MAX_STEPS)
    typical = torch.tensor(statistics.median(measure() for _ in range(calls)), device=torch.cuda.current_device())
    dist.all_reduce(typical, op=dist.ReduceOp.MAX)
    return float(typical)


def evaluations(config: TrainingConfig, stage_end: int, start: int, tokens: int) -> int:
    """Evaluations in the next `tokens` of a stage: every `evaluation.every_tokens`, and at the stage's end."""
    if not tokens or config.evaluation.sequences == 0:
        return 0
    every, end = config.evaluation.every_tokens, start + tokens
    reached = end // every - start // every if every else 0
    return reached + int(end >= stage_end and (every is None or end % every != 0))


def _evaluation_seconds(trainer: Trainer, rest: StageRest) -> float:
    """Of one evaluation, from one sequence a source."""
    config, stage = trainer.config, trainer.config.stages[rest.stage]
    few = replace(config, evaluation=replace(config.evaluation, sequences=1, scores=None))
    evaluator = Evaluator(few, trainer.data, trainer.backend, trainer.step)
    dist.barrier()
    timer = StepTimer()
    if evaluator.evaluate(Progress(), stage) is None:  # nothing is held out
        return 0.0
    return timer.seconds * _batches(trainer, stage, config.evaluation.sequences) / _batches(trainer, stage, 1)


def _batches(trainer: Trainer, stage: StageConfig, sequences: int) -> int:
    """Micro-batches of an evaluation, in groups of what all ranks take at once."""
    held_out = trainer.data.held_out_samples(stage.seq_length, sequences)
    count = sum(len(samples) for samples in held_out.values())
    ranks = parallel_state.get_data_parallel_world_size() * trainer.config.parallel.pipeline_model_parallel_size
    return -(-count // (stage.micro_batch_size * ranks))


def _save_seconds(trainer: Trainer) -> float:
    """Of one checkpoint: every rank writes and hashes its share, here a small file beside the run's folder."""
    folder = Path(trainer.config.output_dir).absolute()
    while not folder.exists():
        folder = folder.parent
    share = checkpoint_bytes(trainer.config) / dist.get_world_size()
    content = os.urandom(PROBE_BYTES)
    dist.barrier()
    timer = StepTimer()
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(content)
        os.fsync(file.fileno())
    hashlib.sha256(content)
    return timer.seconds * share / PROBE_BYTES
