"""Published figures, in percent, as references beside one's own: the MiMo report's and repository's evaluation tables.

A figure that was not published stays empty. They are pass@1 at temperature 0.6 with the repetitions of presets.py; DROP
is 3-shot F1, MMLU-Pro exact match, IFEval strict by prompt.
"""

ROWS = {
    "gpqa_diamond": "GPQA-Diamond",
    "supergpqa": "SuperGPQA",
    "drop": "DROP",
    "mmlu_pro": "MMLU-Pro",
    "ifeval": "IFEval",
    "math_500": "MATH-500",
    "aime24": "AIME 2024",
    "aime25": "AIME 2025",
    "livecodebench_v5": "LiveCodeBench v5",
    "livecodebench_v6": "LiveCodeBench v6",
}
"""Our result's name -> the row's."""
_OTHERS = {
    "gpqa_diamond": (49.9, 65.0, 60.0, 54.5, 59.1, 49.1, 54.4),
    "supergpqa": (42.4, 48.2, 45.2, 43.6, 40.6, 28.9, 40.5),
    "drop": (83.7, 88.3, 83.9, 71.2, 85.5, 77.0, 78.7),
    "mmlu_pro": (72.6, 78.0, 80.3, 52.0, 68.8, 53.5, 58.6),
    "ifeval": (84.3, 86.5, 84.8, 40.4, 78.3, 60.5, 61.0),
    "math_500": (74.6, 78.3, 90.0, 90.6, 93.9, 92.8, 95.8),
    "aime24": (9.3, 16.0, 63.6, 50.0, 69.7, 55.5, 68.2),
    "aime25": (11.6, 7.4, 50.7, 32.4, 48.2, 38.8, 55.4),
    "livecodebench_v5": (32.9, 38.9, 53.8, 41.9, 53.1, 37.6, 57.8),
    "livecodebench_v6": (30.9, 37.2, 46.8, 39.1, 31.9, 23.9, 49.3),
}
OTHER_MODELS = (
    "GPT-4o-0513", "Claude-3.5-Sonnet-1022", "o1-mini", "QwQ-32B-Preview", "R1-Distill-Qwen-14B",
    "R1-Distill-Qwen-7B", "MiMo-7B-RL",
)  # fmt: skip
_SERIES = {
    "math_500": (37.4, 93.6, 93.0, 95.8, 97.2),
    "aime24": (32.9, 56.4, 58.7, 68.2, 80.1),
    "aime25": (24.3, 46.3, 44.3, 55.4, 70.2),
    "livecodebench_v5": (32.9, 49.1, 52.3, 57.8, 60.9),
    "livecodebench_v6": (29.1, 42.9, 45.5, 49.3, 52.2),
    "gpqa_diamond": (None, None, None, 54.4, 60.6),
}
SERIES_MODELS = ("MiMo-7B-Base", "MiMo-7B-RL-Zero", "MiMo-7B-SFT", "MiMo-7B-RL", "MiMo-7B-RL-0530")

Figures = dict[str, dict[str, float | None]]
"""Result's name -> model -> percent."""


def others() -> Figures:
    """MiMo-7B-RL beside other models (the layout of the report's Table 4)."""
    return {task: dict(zip(OTHER_MODELS, row, strict=True)) for task, row in _OTHERS.items()}


def series() -> Figures:
    """The MiMo-7B series (the layout of the report's Table 5)."""
    return {task: dict(zip(SERIES_MODELS, row, strict=True)) for task, row in _SERIES.items()}
