"""How many problems the published benchmarks have, so that a file with another number is reported.

Counts are those of the public data sets' evaluated splits (data cards and papers); where several releases are in use,
all of their counts are accepted. LiveCodeBench counts by window: evaluations state 279 problems for v5's; for v6's they
state 131 (by the contests' dates) or 175 (all of the release's new file).
"""

from collections.abc import Iterator

from megatron_mimo.config.eval import TaskConfig
from megatron_mimo.eval.engines import BASE

COUNTS: dict[str, tuple[int, ...]] = {
    "gsm8k": (1319,),
    "math": (5000,),
    "math_500": (500,),
    "aime24": (30,),
    "aime25": (30,),
    "amc23": (40,),
    "minerva_math": (272,),
    "humaneval": (164,),
    "humaneval_plus": (164,),
    "mbpp": (500,),
    "mbpp_all": (974,),
    "mbpp_plus": (378,),
    "cruxeval_o": (800,),
    "cruxeval_i": (800,),
    "gpqa_diamond": (198,),
    "supergpqa": (26529,),
    "mmlu": (14042,),
    "mmlu_pro": (12032,),
    "ceval": (1346, 12342),
    "cmmlu": (11582,),
    "ifeval": (541,),
    "bbh": (6511,),
    "arc_easy": (2376,),
    "arc_challenge": (1172,),
    "hellaswag": (10042,),
    "piqa": (1838,),
    "winogrande": (1267,),
}
"""By the task's name without `base_`."""
WINDOWS: dict[tuple[str, str], tuple[int, ...]] = {
    ("2024-08-01", "2025-02-01"): (279,),
    ("2025-02-01", "2025-05-01"): (131, 175),
}
"""Of LiveCodeBench: first date and end date -> counts."""


def expected_counts(config: TaskConfig) -> tuple[int, ...]:
    """The published numbers of problems; empty where none is known."""
    name = config.task.removeprefix(BASE)
    if name == "livecodebench":
        return WINDOWS.get((config.first_date or "", config.end_date or ""), ())
    return COUNTS.get(name, ())


def count_notes(config: TaskConfig, count: int) -> Iterator[str]:
    """A word where a file has another number of problems than was published."""
    expected = expected_counts(config)
    if expected and count not in expected:
        where = "in the window" if config.first_date or config.end_date else "in its files"
        yield f"{count} problems {where}; published evaluations count {' or '.join(map(str, expected))}"
