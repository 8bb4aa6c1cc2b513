"""All benchmarks by name, and their problems as a run wants them."""

from megatron_mimo.config import ConfigError
from megatron_mimo.config.eval import TaskConfig
from megatron_mimo.eval.few_shot.form import Form
from megatron_mimo.eval.few_shot.questions import questions
from megatron_mimo.eval.few_shot.task import FewShot
from megatron_mimo.eval.few_shot.texts import texts
from megatron_mimo.eval.protocol import Benchmark, EvalProblem, EvalTask
from megatron_mimo.eval.ruler.form import KINDS, CountTokens
from megatron_mimo.eval.ruler.task import Ruler
from megatron_mimo.eval.tasks.choices import choices
from megatron_mimo.eval.tasks.cruxeval import CruxEval
from megatron_mimo.eval.tasks.ifeval import IfEval
from megatron_mimo.eval.tasks.livecodebench import LiveCodeBench
from megatron_mimo.eval.tasks.mathematics import mathematics
from megatron_mimo.eval.tasks.programs import programs

HARNESS = "harness:"
"""`harness:drop` is lm-evaluation-harness' task `drop` (harness.py)."""
RULER, BASE_RULER = "ruler_", "base_ruler_"
"""For chats, and for base models, which continue the beginning of an answer."""


def file_tasks() -> dict[str, EvalTask]:
    """Every task that is read from a file, by name."""
    tasks: list[EvalTask] = [*mathematics(), *programs(), LiveCodeBench(), *choices(), IfEval()]
    tasks += [CruxEval("cruxeval_o", "output"), CruxEval("cruxeval_i", "input")]
    return {task.name: task for task in tasks}


def forms() -> dict[str, Form]:
    """The tasks of base models by name, in the order of the report's table."""
    return {form.name: form for form in [*questions(), *texts()]}


def names() -> list[str]:
    ruler = [f"{prefix}{kind}" for prefix in (RULER, BASE_RULER) for kind in KINDS]
    return [*file_tasks(), *forms(), *ruler, f"{HARNESS}TASK"]


def find_task(config: TaskConfig, seed: int = 0) -> Benchmark:
    """The benchmark of a configuration. Raises ConfigError for a name that is none."""
    if config.task in forms():
        return FewShot(forms()[config.task], config)
    refuse_shots(config)
    if config.task == "livecodebench":
        return LiveCodeBench(first_date=config.first_date, end_date=config.end_date, runner=config.runner)
    for prefix in (RULER, BASE_RULER):
        if config.task.startswith(prefix):
            return ruler_task(config, seed, prefix)
    tasks = file_tasks()
    if config.task not in tasks:
        raise ConfigError("tasks.task", config.task, f"is one of {', '.join(names())}")
    return tasks[config.task]


def ruler_task(config: TaskConfig, seed: int, prefix: str) -> Ruler:
    return Ruler(
        config.task.removeprefix(prefix),
        config.context_tokens,
        config.num_problems,
        seed,
        thinking_tokens=config.thinking_tokens,
        is_completion=prefix == BASE_RULER,
        path=config.path,
    )


def refuse_shots(config: TaskConfig) -> None:
    """Raise ConfigError for settings of base models' tasks at another task, which would ignore them."""
    for key in ("num_shots", "shots_path", "answer_prefix"):
        if getattr(config, key):
            way_out = f"is for base models' tasks ({', '.join(list(forms())[:3])}, ...) and harness:TASK: leave it out"
            raise ConfigError(f"tasks.{key}", getattr(config, key), way_out)


def load_problems(task: Benchmark, config: TaskConfig, data: str, count: CountTokens | None) -> list[EvalProblem]:
    """All problems, before any limit; `count` (a prompt's tokens) is for RULER. Raises UserError, naming the file."""
    if isinstance(task, Ruler):
        if count is None:
            raise ConfigError("tasks.task", config.task, "needs the model's tokenizer: give a local model folder")
        task.data = data
        return task.generate(count)
    assert isinstance(task, EvalTask)
    return task.load(*task.find(data, config.path))
