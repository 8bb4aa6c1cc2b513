"""Rollouts of models on problems through an endpoint, scored and kept: a stopped run continues where it was."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from megatron_mimo.clients.endpoint import Completion, Message, RequestFailed, Sampling
from megatron_mimo.config import UserError
from megatron_mimo.reward.router import CodeProblem, MathProblem, Reward, RewardFault
from megatron_mimo.rl.problems.difficulty import RolloutResults
from megatron_mimo.rl.problems.problem import Problem, read_lines


class Rollout(msgspec.Struct, kw_only=True):
    """One response of one model, a line of the file."""

    problem: str
    model: str
    sample: int
    response: str = ""
    finish_reason: str = ""
    solved: bool | None = None
    """None: not scored, through no fault of the response; asked again by the next run."""
    passed: list[bool] = []
    """Of code: every test."""
    fault: str = ""


class Chat(Protocol):
    """clients/endpoint.Endpoint, or a stand-in."""

    async def chat(self, messages: list[Message], sampling: Sampling, seed: int | None = None) -> Completion: ...


class Scorer(Protocol):
    """reward/router.RewardRouter, or a stand-in."""

    async def reward(self, problem: MathProblem | CodeProblem, response: str) -> Reward: ...


class RolloutFile:
    """The rollouts of one model: lines are added as they come, faults are asked again."""

    def __init__(self, path: Path, model: str) -> None:
        """Raises UserError for a file that is none, or of another model."""
        self.path, self.model = path, model
        self._done: dict[str, dict[int, Rollout]] = defaultdict(dict)
        for rollout in read_rollouts(path) if path.is_file() else []:
            if rollout.model != model:
                raise UserError(f"{path} holds rollouts of {rollout.model!r}, not of {model!r}: name another output")
            if rollout.solved is not None:
                self._done[rollout.problem][rollout.sample] = rollout

    def missing(self, problem: str, number: int) -> list[int]:
        """Samples that are still to be asked for."""
        return [sample for sample in range(number) if sample not in self._done[problem]]

    def add(self, rollout: Rollout) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(rollout) + b"\n")
        if rollout.solved is not None:
            self._done[rollout.problem][rollout.sample] = rollout

    def results(self, problem: str, number: int) -> RolloutResults:
        """The scored ones."""
        found = [self._done[problem][sample] for sample in range(number) if sample in self._done[problem]]
        return RolloutResults(
            solved=[bool(rollout.solved) for rollout in found],
            passed=[rollout.passed for rollout in found if rollout.passed],
        )


def read_rollouts(path: Path) -> Iterable[Rollout]:
    """Lines of a rollout file; one that a crash cut off at the end is left out. Raises UserError for another."""
    decoder = msgspec.json.Decoder(Rollout)
    lines = list(read_lines(path))
    for number, line in enumerate(lines, start=1):
        try:
            yield decoder.decode(line)
        except msgspec.MsgspecError as error:
            if number == len(lines):
                return
            raise UserError(f"{path}, line {number} is no rollout: {error}") from error


async def roll_out(
    problems: Iterable[Problem],
    file: RolloutFile,
    chat: Chat,
    scorer: Scorer,
    *,
    num_rollouts: int,
    sampling: Sampling,
    instruction: Callable[[Problem], str],
    max_open_problems: int,
    on_problem: Callable[[], None] = lambda: None,
) -> Counter[str]:
    """Ask and score what the file lacks; returns counts (`asked`, `kept`, `faults`)."""
    counts: Counter[str] = Counter()
    slots = asyncio.Semaphore(max_open_problems)

    async def one(problem: Problem, sample: int) -> None:
        rollout = await ask_and_score(problem, sample, file.model, chat, scorer, sampling, instruction(problem))
        counts["faults" if rollout.solved is None else "asked"] += 1
        file.add(rollout)

    async def all_of(problem: Problem) -> None:
        missing = file.missing(problem.id, num_rollouts)
        counts["kept"] += num_rollouts - len(missing)
        try:
            async with asyncio.TaskGroup() as group:
                for sample in missing:
                    group.create_task(one(problem, sample))
        finally:
            slots.release()
        on_problem()

    async with asyncio.TaskGroup() as group:
        for problem in problems:
            await slots.acquire()
            group.create_task(all_of(problem))
    return counts


async def ask_and_score(
    problem: Problem, sample: int, model: str, chat: Chat, scorer: Scorer, sampling: Sampling, instruction: str
) -> Rollout:
    """One response with its score; what the endpoint or the judge failed at is kept as a fault."""
    rollout = Rollout(problem=problem.id, model=model, sample=sample)
    try:
        messages = [{"role": "user", "content": problem.prompt + instruction}]
        completion = await chat.chat(messages, sampling, seed=sample)
        rollout.response, rollout.finish_reason = completion.text, completion.finish_reason
        reward = await scorer.reward(problem.for_reward(), completion.text)
    except (RequestFailed, RewardFault) as error:
        rollout.fault = str(error)[:500]
        return rollout
    rollout.solved, rollout.passed = reward.accuracy == 1.0, list(reward.passed)
    # A response without a program passes nothing, and says so test by test.
    if problem.kind == "code" and not rollout.passed:
        rollout.passed = [False] * len(problem.tests)
    return rollout


def joined(results: Iterable[RolloutResults]) -> RolloutResults:
    """Of several models together."""
    found = list(results)
    return RolloutResults(
        solved=[solved for one in found for solved in one.solved],
        passed=[row for one in found for row in one.passed],
    )
