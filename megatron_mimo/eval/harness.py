"""Tasks of lm-evaluation-harness on our engines: few-shot prompts and rule checkers such as DROP, BBH and IFEval.

`harness:drop` in a configuration runs its task `drop`. The harness makes prompts and scores; answers come from our
engine with our sampling, and are stored like all others. A chat model's are cut at the task's stop strings after the
reasoning, not while the model thinks. Under `generation.template=plain` the model is a base model: prompts go to it as
they are, stop strings end its answers, and tasks may compare log-likelihoods, which are refused for chats. `num_shots`
goes before the task's own number. `path` may name a folder with task files (YAML) of one's own.

Of several filters of a task the first gives the score; the others' scores stand beside it.
"""

import asyncio
import importlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from megatron_mimo.clients.endpoint import Completion, RequestFailed, Sampling
from megatron_mimo.clients.journal import Journal, read_records
from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvaluateConfig, TaskConfig
from megatron_mimo.data.chat.system_prompt import system_message
from megatron_mimo.eval.engines import Engine, digest
from megatron_mimo.eval.registry import HARNESS
from megatron_mimo.eval.summary import by_group, clean_estimates, cost, estimates, format_rate, is_in_format
from megatron_mimo.reward.final_answer import final_part

METRICS = ("prompt_level_strict_acc", "f1", "exact_match", "em", "acc", "acc_norm")
"""The first of these that a task has is its score: strict by prompt for IFEval, F1 for DROP."""


def check(
    tasks: Sequence[TaskConfig], skip_missing: bool = False, say: Callable[[str], None] = print
) -> list[TaskConfig]:
    """The tasks that can be run; raises UserError where some are asked for and the harness is not installed.

    With `skip_missing` they are left out, and said.
    """
    if not tasks or find_spec("lm_eval") is not None:
        return list(tasks)
    names = ", ".join(task.task for task in tasks)
    fault = f"{names} need lm-evaluation-harness: pip install 'lm-eval[ifeval]'"
    if not skip_missing:
        raise UserError(fault)
    say(f"left out: {fault}")
    return []


async def run_task(config: TaskConfig, engine: Engine, evaluation: EvaluateConfig) -> dict[str, Any]:
    """The task's entry in results.json, every repetition with seeds of its own. Raises UserError where it fails."""
    name = config.task.removeprefix(HARNESS)
    key = digest(json.dumps(what_decides(config, evaluation)))
    path = Path(evaluation.output) / "cache" / engine.identity / f"harness_{name}-{key[:12]}.samples.jsonl"
    scores: dict[str, list[float]] = defaultdict(list)
    by_filter: dict[str, list[float]] = defaultdict(list)
    groups: dict[str, str] = {}
    with Journal(path) as journal:
        answers = Answers(engine, config, evaluation, journal)
        for repetition in range(config.repetitions):
            answers.repetition = repetition
            samples = await asyncio.to_thread(simple_evaluate, name, config, answers, asyncio.get_running_loop())
            for subtask, rows in samples.items():
                chosen = rows[0].get("filter") if rows else None
                for row in rows:
                    by_filter[str(row.get("filter"))].append(score_of(row, config.task))
                    if row.get("filter") == chosen:
                        problem = f"{subtask}/{row['doc_id']}"
                        scores[problem].append(score_of(row, config.task))
                        groups[problem] = subtask if len(samples) > 1 else ""
    details = {f"filter {name}": sum(found) / len(found) for name, found in by_filter.items()}
    return answers.results(scores, groups) | {"details": details if len(details) > 1 else {}}


def what_decides(config: TaskConfig, evaluation: EvaluateConfig) -> list[Any]:
    """Everything besides the prompt and its seed that decides an answer."""
    generation = evaluation.generation
    sampling = [config.temperature, config.top_p, config.max_new_tokens, config.stop]
    return [config.task, *sampling, generation.template, system_message(generation.system_prompt)]


class Answers:
    """Stored answers of one task; `draw` asks the engine for those that are missing."""

    def __init__(self, engine: Engine, config: TaskConfig, evaluation: EvaluateConfig, journal: Journal) -> None:
        self.engine, self.config, self.evaluation, self.journal = engine, config, evaluation, journal
        self.repetition = 0
        self.stored = {record["id"]: record for record in read_records(journal.path)}
        self._slots = asyncio.Semaphore(evaluation.generation.max_concurrent_requests)
        self.used: dict[str, dict[str, Any]] = {}
        self.is_plain = evaluation.generation.template == "plain"

    async def draw(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
        """Answers to (prompt, stop strings); a chat is its JSON. Raises UserError when the model stops answering."""
        return await self._all([self._one(prompt, tuple(stop)) for prompt, stop in asked])

    async def compare(self, pairs: list[tuple[str, str]]) -> list[float]:
        """Log-likelihoods of (context, continuation)."""
        return [float(answer) for answer in await self._all([self._likelihood(pair) for pair in pairs])]

    async def _all(self, answers: list[Coroutine[Any, Any, str]]) -> list[str]:
        try:
            return list(await asyncio.gather(*answers))
        except RequestFailed as error:
            raise UserError(
                f"{self.config.task}: {error}\nAll answers so far are stored: run the same command again to go on"
            ) from error

    async def _likelihood(self, pair: tuple[str, str]) -> str:
        async def ask() -> Completion:
            return Completion(repr((await self.engine.log_likelihoods([pair]))[0]), "stop")

        return await self._stored(digest(*pair), pair[0], ask)

    async def _one(self, prompt: str, stop: tuple[str, ...]) -> str:
        seed = self.evaluation.seed + self.repetition
        sampling = Sampling(
            temperature=self.config.temperature, top_p=self.config.top_p, max_new_tokens=self.config.max_new_tokens
        )

        async def ask() -> Completion:
            if self.is_plain:
                return await self.engine.complete(prompt, replace(sampling, stop=stop), seed)
            return await self.engine.answer(json.loads(prompt), sampling, seed)

        return await self._stored(digest(prompt, str(seed)), prompt, ask)

    async def _stored(self, identity: str, conversation: str, ask: Callable[[], Awaitable[Completion]]) -> str:
        if identity not in self.stored:
            async with self._slots:
                start = time.monotonic()
                answer = await ask()
                seconds = round(time.monotonic() - start, 3)
            record = {
                "id": identity,
                "prompt": conversation,
                "response": answer.text,
                "finish_reason": answer.finish_reason,
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "seconds": seconds,
            }
            if identity not in self.stored:  # equal prompts may come at the same time
                self.journal.append(record)
                self.stored[identity] = record
        self.used[identity] = self.stored[identity]
        return self.stored[identity]["response"]

    def results(self, scores: dict[str, list[float]], groups: dict[str, str]) -> dict[str, Any]:
        """In the form of summary.task_results."""
        used, count = list(self.used.values()), len(self.used)
        tokens, prompt_tokens = (sum(one.get(key, 0) for one in used) for key in ("completion_tokens", "prompt_tokens"))
        seconds = sum(one.get("seconds", 0.0) for one in used)
        return {
            "task": self.config.task,
            "repetitions": self.config.repetitions,
            "max_tokens": self.config.max_new_tokens,
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "runner": "lm-evaluation-harness",
            "problems": len(scores),
            "answers": sum(map(len, scores.values())),
            "missing": 0,
            "refused": 0,
            "grader_faults": 0,
            "truncated": sum(one["finish_reason"] == "length" for one in used) / count if count else None,
            "without_answer": sum(not final_part(one["response"]).strip() for one in used) / count if count else None,
            "mean_tokens": tokens / count if count else None,
            "tokens": tokens,
            "prompt_tokens": prompt_tokens,
            "cost": cost(self.evaluation.generation, prompt_tokens, tokens),
            "seconds_per_answer": round(seconds / count, 1) if count else None,
            "score_of_finished": None,
            "unreadable": [],
            "stop": self.config.stop,
            "num_shots": self.config.num_shots,
            **estimates(scores),
            **clean_estimates({}, None),
            **format_rate({one["id"]: [float(is_in_format(one["response"]))] for one in used}),
            "groups": by_group(scores, groups),
            "scores": dict(scores),
        }


def score_of(row: dict[str, Any], task: str) -> float:
    """The score of one sample by the harness."""
    for metric in METRICS:
        if isinstance(row.get(metric), int | float):
            return float(row[metric])
    raise UserError(f"{task}: none of its metrics ({', '.join(row.get('metrics', []))}) is one of {', '.join(METRICS)}")


def simple_evaluate(
    name: str, config: TaskConfig, answers: Answers, loop: asyncio.AbstractEventLoop
) -> dict[str, list[dict[str, Any]]]:
    """Run the harness in this thread; generation runs in `loop`. Returns samples by subtask."""
    harness: Any = importlib.import_module("lm_eval")
    tasks: Any = importlib.import_module("lm_eval.tasks")
    try:
        found = harness.simple_evaluate(
            model=make_model(answers, loop),
            tasks=[name],
            task_manager=tasks.TaskManager(include_path=config.path),
            limit=config.limit,
            num_fewshot=config.num_shots,
            apply_chat_template=not answers.is_plain,
            fewshot_as_multiturn=not answers.is_plain,
            bootstrap_iters=0,
            log_samples=True,
        )
    except (KeyError, ValueError, OSError, ConnectionError) as error:
        raise UserError(f"lm-evaluation-harness cannot run {name}: {error}") from error
    return found["samples"]


def make_model(answers: Answers, loop: asyncio.AbstractEventLoop) -> Any:
    """The harness' model class around `answers`; made here, since its base class is not always installed."""
    base: Any = importlib.import_module("lm_eval.api.model").LM

    class OurModel(base):
        tokenizer_name = "chat"

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return json.dumps(chat_history, ensure_ascii=False)

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            asked = [(request.args[0], stops_of(answers.config, request.args[1])) for request in requests]
            drawn: Future[list[str]] = asyncio.run_coroutine_threadsafe(answers.draw(asked), loop)
            return [cut(text, stop) for text, (_, stop) in zip(drawn.result(), asked, strict=True)]

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            if not answers.is_plain:
                raise UserError(
                    f"{answers.config.task} compares log-likelihoods: set generation.template=plain for a base model, "
                    "or take a task that generates (`*_cot_*`)"
                )
            pairs = [request.args for request in requests]
            found: Future[list[float]] = asyncio.run_coroutine_threadsafe(answers.compare(pairs), loop)
            # Whether a continuation is the likeliest text is not known here; tasks that need it name `is_greedy`.
            return [(nats, False) for nats in found.result()]

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
            raise UserError(f"{answers.config.task} measures the likelihood of whole texts: see evaluate_pretraining")

    return OurModel()


def stops_of(config: TaskConfig, how: dict[str, Any]) -> list[str]:
    """The task's stop strings; the configuration's go before them."""
    until = how.get("until") or []
    return list(config.stop if config.stop is not None else [until] if isinstance(until, str) else until)


def cut(text: str, stops: Iterable[str]) -> str:
    """The answer after the reasoning, up to the first stop string.

    A full stop ends a sentence, not the 10 of 10.5; a lone letter (BBH's `Q`) begins a line.
    """
    answer = final_part(text).strip()
    for stop in filter(None, stops):
        pattern = re.escape(stop)
        if stop == ".":
            pattern = r"\.(?=\s|$)"
        elif len(stop) == 1 and stop.isalpha():
            pattern = rf"(?m:^){stop}"
        answer = re.split(pattern, answer, maxsplit=1)[0]
    return answer
