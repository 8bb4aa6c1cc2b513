"""Tasks of lm-evaluation-harness on our engines: few-shot prompts and rule checkers such as DROP, BBH and IFEval.

`harness:drop` in a configuration runs its task `drop`. The harness makes prompts and scores; answers come from our
engine with our sampling, are stored like all others, and are cut at the task's stop strings behind the reasoning, not
while the model thinks. Tasks that compare log-likelihoods do not fit a model that reasons and are refused. `path` may
name a folder with task files (YAML) of one's own.
"""

import asyncio
import importlib
import json
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvaluateConfig, TaskConfig
from megatron_mimo.data.endpoint import RequestFailed, Sampling
from megatron_mimo.data.journal import Journal, read_records
from megatron_mimo.eval.engines import Engine, digest
from megatron_mimo.eval.registry import HARNESS
from megatron_mimo.eval.summary import by_group, estimates
from megatron_mimo.reward.final_answer import final_part

METRICS = ("prompt_level_strict_acc", "f1", "exact_match", "em", "acc", "acc_norm")
"""The first of these that a task has is its score: strict by prompt for IFEval, F1 for DROP."""


def check(tasks: Iterable[TaskConfig]) -> None:
    """Raise UserError where such tasks are asked for and the harness is not installed."""
    wanted = [task.task for task in tasks]
    if wanted and find_spec("lm_eval") is None:
        raise UserError(f"{', '.join(wanted)} need lm-evaluation-harness: pip install 'lm-eval[ifeval]'")


async def run_task(config: TaskConfig, engine: Engine, evaluation: EvaluateConfig) -> dict[str, Any]:
    """The task's entry in results.json, every repetition with seeds of its own. Raises UserError where it fails."""
    name = config.task.removeprefix(HARNESS)
    key = digest(engine.identity, config.task, repr((config.temperature, config.top_p, config.max_tokens)))
    path = Path(evaluation.output) / "cache" / engine.identity / f"harness_{name}-{key[:12]}.samples.jsonl"
    scores: dict[str, list[float]] = defaultdict(list)
    groups: dict[str, str] = {}
    with Journal(path) as journal:
        answers = Answers(engine, config, evaluation, journal)
        for repetition in range(config.repetitions):
            answers.repetition = repetition
            samples = await asyncio.to_thread(simple_evaluate, name, config, answers, asyncio.get_running_loop())
            for subtask, rows in samples.items():
                for row in rows:
                    problem = f"{subtask}/{row['doc_id']}"
                    scores[problem].append(score_of(row, config.task))
                    groups[problem] = subtask if len(samples) > 1 else ""
    return answers.results(scores, groups)


class Answers:
    """Stored answers of one task; `draw` asks the engine for those that are missing."""

    def __init__(self, engine: Engine, config: TaskConfig, evaluation: EvaluateConfig, journal: Journal) -> None:
        self.engine, self.config, self.evaluation, self.journal = engine, config, evaluation, journal
        self.repetition = 0
        self.stored = {record["id"]: record for record in read_records(journal.path)}
        self._slots = asyncio.Semaphore(evaluation.generation.max_concurrent_requests)
        self.used: dict[str, dict[str, Any]] = {}

    async def draw(self, conversations: list[str]) -> list[str]:
        """Answers to conversations written as JSON. Raises UserError when the model stops answering."""
        try:
            return list(await asyncio.gather(*(self._one(conversation) for conversation in conversations)))
        except RequestFailed as error:
            raise UserError(
                f"{self.config.task}: {error}\nAll answers so far are stored: run the same command again to go on"
            ) from error

    async def _one(self, conversation: str) -> str:
        seed = self.evaluation.seed + self.repetition
        identity = digest(conversation, str(seed))
        if identity not in self.stored:
            sampling = Sampling(
                temperature=self.config.temperature, top_p=self.config.top_p, max_tokens=self.config.max_tokens
            )
            async with self._slots:
                answer = await self.engine.answer(json.loads(conversation), sampling, seed)
            record = {
                "id": identity,
                "prompt": conversation,
                "response": answer.text,
                "finish_reason": answer.finish_reason,
                "completion_tokens": answer.completion_tokens,
            }
            if identity not in self.stored:  # equal prompts may come at the same time
                self.journal.append(record)
                self.stored[identity] = record
        self.used[identity] = self.stored[identity]
        return self.stored[identity]["response"]

    def results(self, scores: dict[str, list[float]], groups: dict[str, str]) -> dict[str, Any]:
        """In the form of summary.task_results."""
        used, count = list(self.used.values()), len(self.used)
        return {
            "task": self.config.task,
            "repetitions": self.config.repetitions,
            "max_tokens": self.config.max_tokens,
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
            "mean_tokens": sum(one["completion_tokens"] for one in used) / count if count else None,
            **estimates(scores),
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
            apply_chat_template=True,
            fewshot_as_multiturn=True,
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
            asked = [request.args for request in requests]
            drawn: Future[list[str]] = asyncio.run_coroutine_threadsafe(
                answers.draw([conversation for conversation, _ in asked]), loop
            )
            return [cut(text, how.get("until")) for text, (_, how) in zip(drawn.result(), asked, strict=True)]

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
            raise UserError(f"{answers.config.task} compares log-likelihoods; take a task that generates (`*_cot_*`)")

        loglikelihood_rolling = loglikelihood

    return OurModel()


def cut(text: str, until: str | list[str] | None) -> str:
    """The answer behind the reasoning, up to the first stop string."""
    answer = final_part(text).strip()
    for stop in [until] if isinstance(until, str) else until or []:
        if stop:
            answer = answer.partition(stop)[0]
    return answer
