"""What every row of the presets is: the report's name, the protocol, the files, whose prompt, and what was verified."""

from megatron_mimo.config.eval import TaskConfig
from megatron_mimo.eval.few_shot.form import Form
from megatron_mimo.eval.presets import LENGTHS, base, report
from megatron_mimo.eval.published import ROWS
from megatron_mimo.eval.registry import HARNESS, file_tasks, forms
from megatron_mimo.eval.ruler.form import KINDS

VERIFIED = {
    "base_bbh": "prompts equal the harness' byte for byte",
    "base_mmlu": "prompts and requests equal the harness' byte for byte",
    "base_gsm8k": "prompts equal the harness' byte for byte",
    "base_arc_easy": "prompts and requests equal the harness' byte for byte",
    "base_arc_challenge": "prompts and requests equal the harness' byte for byte",
    "base_hellaswag": "prompts and requests equal the harness' byte for byte",
    "base_piqa": "prompts and requests equal the harness' byte for byte",
    "base_winogrande": "requests equal the harness' byte for byte",
    "base_drop": "questions and F1 equal the harness'; examples end in the answer, where its end in field names",
    "ifeval": "published verdicts on GPT-4's responses",
    "aime24": "golden answers",
    "livecodebench": "own runner's rules (lcb-compat)",
}
SHOTS = {
    "first": "first of the examples' split",
    "random": "drawn for each question, seed 1234",
    "others": "first others of the tested file (ours)",
    "fixed": "the benchmark's own",
    "none": "",
}


def rows() -> list[dict[str, str]]:
    """One for each task of `base` and `report`, and for each kind of RULER."""
    of_base = [base_row(config, forms()[config.task]) for config in base()]
    return [*of_base, *(row(config) for config in report()), *(ruler_row(kind) for kind in KINDS)]


def base_row(config: TaskConfig, form: Form) -> dict[str, str]:
    kind = "log-likelihood per character" if form.is_normalised else "log-likelihood" if not form.inner else "text"
    shots = f"{form.num_shots}-shot" + (f" ({SHOTS[form.shots]})" if form.num_shots else "")
    names = ", ".join(form.files)
    return {
        "preset": "base",
        "task": config.task,
        "row": form.row,
        "protocol": f"{kind}, {shots}{drawn(config) if form.inner else ''}",
        "files": f"{names} ({form.split})",
        "prompt": form.source,
        "verified": VERIFIED.get(config.task, "-"),
    }


def ruler_row(name: str) -> dict[str, str]:
    kind = KINDS[name]
    needs_prose = kind.haystack not in ("", "noise") or kind.key == "word" or kind.family == "common_words"
    example = ", one worked example" if kind.family in ("variables", "common_words") else ""
    return {
        "preset": "base_ruler",
        "task": f"base_ruler_{name}",
        "row": "RULER",
        "protocol": f"text, beginning of the answer given{example}, greedy, {LENGTHS[0]} to {LENGTHS[-1]} tokens",
        "files": ", ".join(kind.files) or ("essays, or Python's documentation" if needs_prose else "none"),
        "prompt": "NVIDIA's generator",
        "verified": "wording equals NVIDIA's generator byte for byte",
    }


def row(config: TaskConfig) -> dict[str, str]:
    is_foreign = config.task.startswith(HARNESS)
    task = None if is_foreign else file_tasks().get(config.task)
    shots = f", {config.num_shots}-shot" if config.num_shots else ", 0-shot"
    return {
        "preset": "report",
        "task": config.task,
        "row": ROWS.get(config.title, config.title),
        "protocol": f"chat{shots}{drawn(config)}",
        "files": ", ".join(task.files) if task else "from the hub",
        "prompt": "lm-evaluation-harness" if is_foreign else "ours",
        "verified": VERIFIED.get(config.task, "-"),
    }


def drawn(config: TaskConfig) -> str:
    how = "greedy" if config.temperature == 0 else f"temperature {config.temperature}, top-p {config.top_p}"
    window = f", {config.first_date} to {config.end_date}" if config.first_date else ""
    return f", {how}, avg@{config.repetitions}, {config.max_new_tokens} tokens{window}"


def text() -> str:
    """The table for the terminal."""
    found = rows()
    heads = list(found[0])
    widths = {head: max(len(head), *(len(one[head]) for one in found)) for head in heads}
    lines = ["  ".join(head.ljust(widths[head]) for head in heads)]
    lines += ["  ".join(one[head].ljust(widths[head]) for head in heads).rstrip() for one in found]
    return "\n".join(lines)
