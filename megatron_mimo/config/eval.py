"""Settings of an evaluation: model, data, tasks and how answers are drawn."""

import datetime
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from megatron_mimo.config.errors import ConfigError, require_at_least
from megatron_mimo.config.judge import JudgeConfig


@dataclass(kw_only=True)
class TaskConfig:
    """One benchmark of a run."""

    RENAMED: ClassVar = {"max_tokens": "max_new_tokens"}
    task: str
    """Name of a task (`megatron-mimo evaluate tasks` lists them)."""
    name: str | None = None
    """Name in the results, the task's own by default; needed where a task stands twice."""
    path: str | None = None
    """Its file: local, or `hub:OWNER/NAME/FILE` (Hugging Face data set). Default: the task's usual file in `data`.
    Of RULER: the essays that needles are hidden in, or the questions of `qa_1` and `qa_2`."""
    repetitions: int = 1
    """Answers drawn per problem; the score is the mean over them (avg@n)."""
    max_new_tokens: int = 32768
    """Longest answer."""
    temperature: float = 0.6
    top_p: float = 0.95
    stop: list[str] | None = None
    """Texts that end an answer. Default: those of a base model's task; under `generation.template=plain` cues that
    begin another question; none for chats."""
    num_shots: int | None = None
    """Of base models' tasks: worked examples before the question; default: as the report."""
    shots_path: str | None = None
    """File or folder of those examples, by default beside the questions."""
    answer_prefix: str = ""
    """Of base models' tasks: what the answer begins with; it counts as part of it."""
    limit: int | None = None
    """Evaluate the first problems only."""
    first_date: str | None = None
    """Of tasks with dates (LiveCodeBench): first day, YYYY-MM-DD, included."""
    end_date: str | None = None
    """Day after the last: excluded."""
    runner: Literal["judge", "lcb-compat"] = "judge"
    """Of LiveCodeBench: the strict judge, or its own runner's rules for comparison with published figures."""
    context_tokens: int = 4096
    """Of RULER: tokens of the prompt and of an answer of the paper's length, template included."""
    thinking_tokens: int = 0
    """Of RULER: tokens of `context_tokens` that the prompt leaves free for reasoning."""
    num_problems: int = 100
    """Of RULER: problems made."""

    def __post_init__(self) -> None:
        require_at_least(1, "tasks", repetitions=self.repetitions, max_new_tokens=self.max_new_tokens, limit=self.limit)
        require_at_least(1, "tasks", context_tokens=self.context_tokens, num_problems=self.num_problems)
        require_at_least(0, "tasks", temperature=self.temperature, num_shots=self.num_shots)
        require_at_least(0, "tasks", thinking_tokens=self.thinking_tokens)
        if not 0 < self.top_p <= 1:
            raise ConfigError("tasks.top_p", self.top_p, "must be above 0 and at most 1")
        if self.temperature == 0 and self.repetitions > 1:
            raise ConfigError("tasks.repetitions", self.repetitions, "greedy answers are all the same: 1 is enough")
        for key in ("first_date", "end_date"):
            check_date(f"tasks.{key}", getattr(self, key))

    @property
    def title(self) -> str:
        """Name in the results."""
        return self.name or self.task


def check_date(key: str, value: str | None) -> None:
    if value is None:
        return
    try:
        datetime.date.fromisoformat(value)
    except ValueError as error:
        raise ConfigError(key, value, 'write the date as "YYYY-MM-DD", in quotes') from error


@dataclass(kw_only=True)
class EvalGenerationConfig:
    """How the model is run and asked."""

    RENAMED: ClassVar = {"num_drafts": "num_speculative_tokens", "max_model_len": "seq_length"}
    served_model: str = ""
    """Model name that an endpoint is asked for; by default the first that it lists."""
    template: Literal["chat", "plain"] = "chat"
    """`chat`: the tokenizer's chat template. `plain`: only the prompt's text, for base models in a local folder."""
    system_prompt: str | None = ""
    """Empty by the report's advice: the chat template gets an empty system message. null sends none, and the template
    may insert its own default, as Xiaomi's does."""
    max_concurrent_requests: int = 64
    max_waiting_grades: int = 4096
    """Answers that may wait for their grade before generation pauses."""
    num_speculative_tokens: int | None = None
    """Tokens drafted per step by a local model; default: one for each MTP layer."""
    seq_length: int | None = None
    """Longest prompt and answer together of a local model; default: as the model says."""
    timeout_seconds: float = 7200.0
    """Of one request to an endpoint."""
    max_attempts: int = 8
    first_delay_seconds: float = 1.0
    longest_delay_seconds: float = 60.0
    price_per_million_prompt_tokens: float = 0.0
    price_per_million_completion_tokens: float = 0.0
    """In any currency: the results' cost is in it, over all stored answers."""

    def __post_init__(self) -> None:
        require_at_least(1, "generation", max_concurrent_requests=self.max_concurrent_requests)
        require_at_least(1, "generation", max_waiting_grades=self.max_waiting_grades, max_attempts=self.max_attempts)


@dataclass(kw_only=True)
class EvaluateConfig:
    """One evaluation of one model."""

    model: str = ""
    """Folder of an exported model, or the address of an OpenAI-compatible endpoint (http://host:port/v1)."""
    model_name: str = ""
    """Name in reports; default: the folder's or the served model's. Of an endpoint it is the identity in the cache as
    well: give another name when its weights changed."""
    data: str = ""
    """Folder with the benchmarks' files."""
    output: str = "evaluation"
    """Folder of the answers, the results and the report."""
    seed: int = 1234
    tasks: list[TaskConfig] = field(default_factory=list)
    generation: EvalGenerationConfig = field(default_factory=EvalGenerationConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    judge_urls: list[str] = field(default_factory=list)
    """Judge servers; empty: judge on this machine."""
    num_math_workers: int = 2
    contamination: str = ""
    """Folder that says what stands in the training data (an index of its n-grams, or the data step's documents that
    were dropped or marked as contaminated): scores are then given on the other problems too."""
    limit: int | None = None
    """Evaluate the first problems of every task only; a task's own `limit` goes before it."""
    skip_missing: bool = False
    """Leave tasks out whose files, or the library that grades them, are missing, and say which, instead of stopping."""

    def __post_init__(self) -> None:
        titles = [task.title for task in self.tasks]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise ConfigError("tasks", twice, "stands twice: give each its own name")
        require_at_least(1, "evaluate", num_math_workers=self.num_math_workers, limit=self.limit)
        for task in self.tasks:
            task.limit = self.limit if task.limit is None else task.limit


@dataclass(kw_only=True)
class TaskScoresConfig:
    """A small evaluation inside of the training loop: the weights of the moment answer benchmarks through vLLM."""

    RENAMED: ClassVar = {"limit_seconds": "timeout_seconds"}
    every_tokens: int
    """Consumed tokens between two; the end of the run is scored too."""
    evaluate: EvaluateConfig
    """Tasks and how they are asked; `model` and `output` are the run's own."""
    timeout_seconds: float = 240.0
    """Maximum time the ranks wait; an evaluation that takes longer is given up and training continues."""

    def __post_init__(self) -> None:
        require_at_least(1, "evaluation.scores", every_tokens=self.every_tokens, timeout_seconds=self.timeout_seconds)
        if not self.evaluate.tasks:
            raise ConfigError("evaluation.scores.evaluate.tasks", [], "name at least one task")
        if self.evaluate.model:
            raise ConfigError("evaluation.scores.evaluate.model", self.evaluate.model, "leave it out: it is the run's")
