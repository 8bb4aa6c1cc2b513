"""Settings by name. `report` follows the MiMo report and repository: temperature 0.6, top-p 0.95 and what is below;
`base` its table of base models.

Stated there: 32 repetitions of AIME, 8 of LiveCodeBench (v5: 2024-08-01 to 2025-02-01, v6: to 2025-05-01),
GPQA-Diamond and IFEval, one of MATH-500 and SuperGPQA; 32 768 new tokens for mathematics, code and science, 8 192 for
the rest; an empty system prompt. Assumed here, since nothing is said: the prompts' wording, one repetition of MMLU-Pro
and DROP, SuperGPQA and GPQA as science (32 768), the last day of a window left out, zero-shot prompts but for DROP. Of
Table 1 the report states metric and shots; whose prompts they are says `megatron-mimo evaluate tasks --table`.
"""

from typing import Any

from megatron_mimo.config import ConfigError
from megatron_mimo.config.eval import TaskConfig

LONG_TOKENS, SHORT_TOKENS = 32768, 8192
WINDOWS = {"v5": ("2024-08-01", "2025-02-01"), "v6": ("2025-02-01", "2025-05-01")}
"""Of LiveCodeBench."""


def long(task: str, repetitions: int = 1, name: str | None = None, **dates: str) -> TaskConfig:
    return TaskConfig(task=task, name=name, repetitions=repetitions, max_new_tokens=LONG_TOKENS, **dates)  # type: ignore[arg-type]


def short(task: str, repetitions: int = 1) -> TaskConfig:
    name = task.partition(":")[2] or None
    return TaskConfig(task=task, name=name, repetitions=repetitions, max_new_tokens=SHORT_TOKENS)


def mathematics() -> list[TaskConfig]:
    return [long("math_500"), long("aime24", 32), long("aime25", 32)]


def code(runner: str = "judge") -> list[TaskConfig]:
    return [
        long("livecodebench", 8, f"livecodebench_{version}", first_date=start, end_date=end, runner=runner)
        for version, (start, end) in WINDOWS.items()
    ]


def general() -> list[TaskConfig]:
    return [long("gpqa_diamond", 8), long("supergpqa"), short("mmlu_pro")]


def report() -> list[TaskConfig]:
    """The rows of the report's tables for trained models (Tables 4 to 6)."""
    return [*mathematics(), *code(), *general(), *rule_checked()]


def rule_checked() -> list[TaskConfig]:
    """IFEval, and DROP with the three examples that the report states, both by lm-evaluation-harness' rules."""
    drop = short("harness:drop")
    drop.num_shots = 3
    return [short("ifeval", 8), drop]


def harness() -> list[TaskConfig]:
    """What lm-evaluation-harness grades: IFEval, DROP, and BBH with its worked examples."""
    return [*rule_checked(), short("harness:bbh_cot_fewshot")]


def base() -> list[TaskConfig]:
    """The 29 rows of the report's Table 1, with its shots; greedy, but for AIME and LiveCodeBench.

    32 repetitions of AIME and 8 of LiveCodeBench are those of the trained models; Table 1 states none.
    """
    from megatron_mimo.eval.registry import forms

    sampled = {"base_aime24": 32, "base_aime25": 32, "base_livecodebench": 8}
    tasks = []
    for name, form in forms().items():
        if not form.row:
            continue
        dates: dict[str, Any] = {}
        if name == "base_livecodebench":
            dates = {"first_date": WINDOWS["v5"][0], "end_date": WINDOWS["v5"][1]}
        repetitions = sampled.get(name, 1)
        temperature = 0.6 if repetitions > 1 else 0.0
        config = TaskConfig(
            task=name, repetitions=repetitions, max_new_tokens=form.max_tokens, temperature=temperature, **dates
        )
        tasks.append(config)
    return tasks


def pass_at_k() -> list[TaskConfig]:
    """pass@k curves of base models; 64 repetitions are our choice."""
    return [long("math_500", 64), long("aime24", 64), long("aime25", 64), *code()]


def functions() -> list[TaskConfig]:
    names = ("humaneval", "humaneval_plus", "mbpp", "mbpp_plus", "cruxeval_o", "cruxeval_i")
    return [short(name) for name in names]


LENGTHS, LONG_LENGTHS = (4096, 8192, 16384, 32768), (65536, 131072)
"""Of RULER: those of the report, and beyond."""
RULER_THINKING_TOKENS = 8192


def ruler(prefix: str = "ruler_", lengths: tuple[int, ...] = LENGTHS) -> list[TaskConfig]:
    """The 13 kinds, greedy, with room for an answer as in the paper."""
    from megatron_mimo.eval.ruler.form import KINDS
    from megatron_mimo.eval.ruler.task import answer_tokens

    return [
        TaskConfig(
            task=f"{prefix}{kind}",
            name=f"{prefix}{kind}_{length}",
            context_tokens=length,
            max_new_tokens=answer_tokens(kind),
            temperature=0.0,
        )
        for length in lengths
        for kind in KINDS
    ]


def ruler_thinking() -> list[TaskConfig]:
    """The same for models that think: sampled, with room for the thought, at the longest length within it."""
    tasks = ruler()
    for task in tasks:
        task.max_new_tokens += RULER_THINKING_TOKENS
        task.temperature = 0.6
        task.thinking_tokens = RULER_THINKING_TOKENS if task.context_tokens == LENGTHS[-1] else 0
    return tasks


PRESETS = {
    "report": report,
    "report_lcb_compat": lambda: code("lcb-compat"),
    "harness": harness,
    "mathematics": mathematics,
    "code": code,
    "general": general,
    "functions": functions,
    "base": base,
    "pass_at_k": pass_at_k,
    "ruler": ruler,
    "ruler_thinking": ruler_thinking,
    "ruler_long": lambda: ruler(lengths=LONG_LENGTHS),
    "base_ruler": lambda: ruler("base_ruler_"),
    "base_ruler_long": lambda: ruler("base_ruler_", LONG_LENGTHS),
}


def preset(name: str) -> list[TaskConfig]:
    """The tasks of a preset. Raises ConfigError for a name that is none."""
    if name not in PRESETS:
        raise ConfigError("preset", name, f"is one of {', '.join(PRESETS)}")
    return PRESETS[name]()
