"""A run: every missing answer is generated, and graded while others still generate.

Workers draw answers; each answer is stored, then graded in its own task and its grade stored. Repetitions go
around the problems, so that an interrupted run has seen all of them equally often.
"""

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from megatron_mimo.clients.endpoint import Completion, RequestFailed, Sampling
from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvalGenerationConfig, EvaluateConfig, TaskConfig
from megatron_mimo.eval.cache import Store, grade_id, grade_key, open_store, sample_key
from megatron_mimo.eval.contamination import contaminated, known_texts
from megatron_mimo.eval.engines import Engine, prompt_counter
from megatron_mimo.eval.problem_counts import count_notes
from megatron_mimo.eval.protocol import Benchmark, EvalProblem, GradeFault, Graders
from megatron_mimo.eval.records import Missing
from megatron_mimo.eval.registry import find_task, load_problems
from megatron_mimo.eval.ruler.task import Ruler
from megatron_mimo.platform.concurrency import for_each

GRADE_ATTEMPTS = 3
NEXT_QUESTION = ("\nQuestion:", "\nProblem:", "\nQ:", "\nUser:", "\nHuman:", "<|im_start|>", "<|endoftext|>")
"""A base model that has answered then writes a new question, whose answer is not to be graded."""
STORED_ANSWER_CHARACTERS = 500
Say = Callable[[str], None]


@dataclass
class TaskRun:
    """One task of a run with its place on the disk."""

    config: TaskConfig
    task: Benchmark
    problems: list[EvalProblem]
    store: Store
    refused: int = 0
    faults: int = 0
    """Answers whose grader failed; they have no score and are graded again next time."""
    generated: int = 0
    stop: tuple[str, ...] = ()
    """Of prompts that name none of their own."""
    contaminated: dict[str, str] | None = None
    """Problems that stand in the training data, and the n-gram found there; None: not looked for."""

    def wanted(self) -> Iterator["Job"]:
        """All answers of the run, repetition by repetition."""
        for repetition in range(self.config.repetitions):
            for problem in self.problems:
                yield Job(self, problem, repetition)

    def missing(self) -> list["Job"]:
        """Those of the wanted answers that are not stored; the store must be open."""
        return [job for job in self.wanted() if job.id not in self.store.samples.ids]

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            max_new_tokens=self.config.max_new_tokens,
            stop=self.stop,
        )


@dataclass
class Job:
    """One answer to draw."""

    run: TaskRun
    problem: EvalProblem
    repetition: int

    @property
    def id(self) -> str:
        return f"{self.problem.id}#{self.repetition}"

    def seed(self, seed: int) -> int:
        """Its own seed for every answer, the same whenever it is drawn."""
        content = f"{seed}/{self.run.config.task}/{self.id}".encode()
        return int.from_bytes(hashlib.sha256(content).digest()[:4]) >> 1


def prepare(config: EvaluateConfig, engine: Engine, say: Say = print) -> list[TaskRun]:
    """Load every task; `say` gets what its files lack.

    Raises UserError for bad files and settings before anything is generated.
    """
    if not config.tasks:
        raise UserError("no tasks: name some in the configuration, or take a --preset")
    runs = []
    known = known_texts(config.contamination) if config.contamination else None
    for task_config in config.tasks:
        task = find_task(task_config, config.seed)
        try:
            count = prompt_counter(engine, isinstance(task, Ruler) and task.is_completion)
            problems = load_problems(task, task_config, config.data, count)
        except Missing as error:
            if not config.skip_missing:
                raise
            say(f"left out: {error}")
            continue
        notes = [*count_notes(task_config, len(problems)), *lengths(task, task_config, engine)]
        for note in [*getattr(task, "notes", []), *notes]:
            say(f"{task_config.title}: {note}")
        key = sample_key(engine.identity, task_config, config.generation, config.seed, problems)
        store = open_store(Path(config.output), key, grade_key(task, task_config, problems), problems)
        stop = tuple(stops(task_config, config.generation))
        chosen = problems[: task_config.limit]
        found = contaminated(chosen, known) if known else None
        runs.append(TaskRun(task_config, task, chosen, store, stop=stop, contaminated=found))
    if not runs:
        raise UserError("no task has its files in data: name the folder with --data")
    return runs


def lengths(task: Benchmark, config: TaskConfig, engine: Engine) -> Iterator[str]:
    """A word where RULER's prompts and answers are longer than the model's context."""
    limit = getattr(engine, "context_tokens", None)
    if isinstance(task, Ruler) and limit and task.prompt_tokens + config.max_new_tokens > limit:
        yield (
            f"prompts of {task.prompt_tokens} tokens and {config.max_new_tokens} new ones are more than the model's "
            f"{limit}: answers are cut there; lower max_new_tokens or context_tokens, or set thinking_tokens"
        )


async def ask(engine: Engine, problem: EvalProblem, sampling: Sampling, seed: int) -> Completion:
    """An answer to messages, the continuation of a text, or log-likelihoods as a JSON list. Raises as the engine."""
    if problem.pairs:
        nats = await engine.log_likelihoods(problem.pairs)
        return Completion(json.dumps(nats), "stop")
    if problem.prompt is not None:
        return await engine.complete(problem.prompt, replace(sampling, stop=problem.stop), seed)
    return await engine.answer(problem.messages, sampling, seed)


@dataclass
class Pipeline:
    """Generation and grading at the same time. `streaming` off grades after the last answer (for measurements)."""

    engine: Engine
    graders: Graders
    seed: int = 0
    num_workers: int = 64
    max_waiting_grades: int = 4096
    streaming: bool = True
    say: Say = print
    _failure: Exception | None = None
    _grading: set[asyncio.Task[None]] = field(default_factory=set)
    _held: list[tuple[Job, str]] = field(default_factory=list)
    _done: int = 0
    _total: int = 0
    _said: float = 0.0

    async def run(self, runs: list[TaskRun]) -> None:
        """Make every missing answer and grade. Raises UserError when the model stops answering; all done is stored."""
        missing = [job for run in runs for job in run.missing()]
        self._total = sum(len(run.problems) * run.config.repetitions for run in runs)
        self._done = self._total - len(missing)
        if self._done:
            self.say(f"{self._done} of {self._total} answers are stored already")
        self._room = asyncio.Semaphore(self.max_waiting_grades)
        try:
            await self._grade_stored(runs)
            until_failure = itertools.takewhile(lambda _: self._failure is None, missing)
            await for_each(until_failure, self._generate, min(self.num_workers, len(missing)))
            for job, response in self._held:
                await self._start_grading(job, response)
        finally:
            # What was answered is graded even when the model is gone.
            await asyncio.gather(*self._grading)
        if self._failure is not None:
            raise UserError(
                f"the model stopped answering after {self._done} of {self._total} answers: {self._failure}\n"
                "All of them are stored: run the same command again to go on"
            ) from self._failure

    async def _grade_stored(self, runs: Iterable[TaskRun]) -> None:
        """Grade answers of earlier runs that were killed before their grade, or whose grader failed."""
        for run in runs:
            wanted = {job.id: job for job in run.wanted()}
            for record in run.store.read_samples():
                if record["id"] in wanted:
                    await self._start_grading(wanted[record["id"]], record["response"])

    async def _generate(self, job: Job) -> None:
        start = time.monotonic()
        try:
            answer = await ask(self.engine, job.problem, job.run.sampling, job.seed(self.seed))
        except RequestFailed as error:
            if not error.final:
                self._failure = self._failure or error
                return
            if not job.run.refused:
                self.say(f"{job.run.config.title}: {job.id} was refused ({error})")
            job.run.refused += 1
            return
        except UserError as error:
            self._failure = self._failure or error
            return
        job.run.store.samples.append(
            {
                "id": job.id,
                "problem": job.problem.id,
                "repetition": job.repetition,
                "response": answer.text,
                "finish_reason": answer.finish_reason,
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "seconds": round(time.monotonic() - start, 3),
            }
        )
        job.run.generated += 1
        self._progress()
        if self.streaming:
            await self._start_grading(job, answer.text)
        else:
            self._held.append((job, answer.text))

    async def _start_grading(self, job: Job, response: str) -> None:
        if grade_id(job.id, response) in job.run.store.grades.ids:
            return
        await self._room.acquire()
        task = asyncio.create_task(self._grade(job, response))
        self._grading.add(task)
        task.add_done_callback(self._graded)

    def _graded(self, task: asyncio.Task[None]) -> None:
        self._room.release()
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._grading.discard(task)
        elif isinstance(error, Exception):
            # It stays among the others, so that `run` raises it; no more answers are drawn for a broken grader.
            self._failure = self._failure or error

    async def _grade(self, job: Job, response: str) -> None:
        for attempt in range(GRADE_ATTEMPTS):
            try:
                grade = await job.run.task.grade(job.problem, response, self.graders)
                break
            except GradeFault as fault:
                if attempt + 1 == GRADE_ATTEMPTS:
                    job.run.faults += 1
                    self.say(f"{job.run.config.title}: {job.id} could not be graded ({fault})")
                    return
        answer = grade.answer and grade.answer[:STORED_ANSWER_CHARACTERS]
        key = grade_id(job.id, response)
        job.run.store.grades.append(
            {"id": key, "score": grade.score, "answer": answer, "verdict": grade.verdict, "details": grade.details}
        )

    def _progress(self) -> None:
        self._done += 1
        if time.monotonic() - self._said > 10 or self._done == self._total:
            self._said = time.monotonic()
            self.say(f"{self._done} of {self._total} answers, {len(self._grading)} being graded")


def stops(task: TaskConfig, generation: EvalGenerationConfig) -> Iterable[str]:
    """Texts that end an answer: the configured ones; of a base model's plain prompts the cues of a next question."""
    if task.stop is not None:
        return task.stop
    return NEXT_QUESTION if generation.template == "plain" else ()
