"""Results of a run from its stored answers and grades."""

from collections import defaultdict
from typing import Any

import numpy as np

from megatron_mimo.config.eval import EvalGenerationConfig, EvaluateConfig
from megatron_mimo.eval.cache import grade_id
from megatron_mimo.eval.engines import Engine
from megatron_mimo.eval.estimators import average_at_n, confidence_interval, pass_at_k_curve
from megatron_mimo.eval.ruler.task import DEPTH, Ruler
from megatron_mimo.eval.run import TaskRun
from megatron_mimo.reward.final_answer import final_part

UNREADABLE_EXAMPLES, UNREADABLE_CHARACTERS = 5, 300


def summarize(config: EvaluateConfig, engine: Engine, runs: list[TaskRun]) -> dict[str, Any]:
    """The tree of results.json; `scores` hold every problem's, for paired comparison."""
    return {
        "model": engine.name,
        "identity": engine.identity,
        "seed": config.seed,
        "template": config.generation.template,
        "system_prompt": config.generation.system_prompt,
        "seq_length": config.generation.seq_length,
        "tasks": {run.config.title: task_results(run, config.generation) for run in runs},
    }


def task_results(run: TaskRun, generation: EvalGenerationConfig) -> dict[str, Any]:
    """Score, interval, pass@k, and what qualifies them: truncated, unanswered, missing answers."""
    grades, wanted = run.store.read_grades(), {job.id for job in run.wanted()}
    groups = {problem.id: problem.group for problem in run.problems}
    scores: dict[str, list[float]] = defaultdict(list)
    in_format: dict[str, list[float]] = defaultdict(list)
    lengths, truncated, unanswered, seconds, prompt_tokens = [], 0, 0, 0.0, 0
    finished: dict[str, list[float]] = defaultdict(list)
    details: dict[str, list[float]] = defaultdict(list)
    unreadable: list[dict[str, str]] = []
    for sample in run.store.read_samples():
        grade = grades.get(grade_id(sample["id"], sample["response"]))
        if sample["id"] in wanted and grade is not None:
            scores[sample["problem"]].append(grade["score"])
            readable = grade["answer"] is not None
            in_format[sample["problem"]].append(float("</think>" in sample["response"] and readable))
            lengths.append(sample["completion_tokens"])
            prompt_tokens += sample.get("prompt_tokens", 0)
            seconds += sample.get("seconds", 0.0)
            truncated += sample["finish_reason"] == "length"
            if sample["finish_reason"] != "length":
                finished[sample["problem"]].append(grade["score"])
            for name, score in (grade.get("details") or {}).items():
                details[name].append(score)
            unanswered += not readable
            if not readable and len(unreadable) < UNREADABLE_EXAMPLES:
                end = sample["response"][-UNREADABLE_CHARACTERS:]
                unreadable.append({"id": sample["id"], "verdict": grade["verdict"], "end": end})
    count = len(lengths)
    return {
        "task": run.config.task,
        "repetitions": run.config.repetitions,
        "max_tokens": run.config.max_new_tokens,
        "temperature": run.config.temperature,
        "top_p": run.config.top_p,
        "runner": run.config.runner,
        "stop": run.config.stop,
        "num_shots": run.config.num_shots,
        "answer_prefix": run.config.answer_prefix,
        "context_tokens": run.config.context_tokens if isinstance(run.task, Ruler) else None,
        "thinking_tokens": run.config.thinking_tokens if isinstance(run.task, Ruler) else None,
        "answers_file": str(run.store.samples.path.resolve()),
        "grades_file": str(run.store.grades.path.resolve()),
        "problems_file": str(run.store.problems.resolve()),
        "problems": len(run.problems),
        "answers": count,
        "missing": len(wanted) - count,
        "refused": run.refused,
        "grader_faults": run.faults,
        "truncated": truncated / count if count else None,
        "without_answer": unanswered / count if count else None,
        "mean_tokens": float(np.mean(lengths)) if count else None,
        "tokens": int(np.sum(lengths)) if count else 0,
        "prompt_tokens": prompt_tokens,
        "seconds_per_answer": round(seconds / count, 1) if count else None,
        "cost": cost(generation, prompt_tokens, int(np.sum(lengths))),
        "score_of_finished": average_at_n(list(finished.values())) if finished else None,
        "unreadable": unreadable,
        "details": {name: float(np.mean(found)) for name, found in details.items()},
        **estimates(scores),
        **clean_estimates(scores, run.contaminated),
        **format_rate(in_format),
        "groups": by_group(scores, groups),
        "scores": dict(scores),
    }


def cost(generation: EvalGenerationConfig, prompt_tokens: int, completion_tokens: int) -> float:
    """In the currency of the configured prices; 0 without prices."""
    prompts = prompt_tokens * generation.price_per_million_prompt_tokens
    return (prompts + completion_tokens * generation.price_per_million_completion_tokens) / 1e6


def clean_estimates(scores: dict[str, list[float]], contaminated: dict[str, str] | None) -> dict[str, Any]:
    """The score on problems that do not stand in the training data; `contaminated` None: nobody looked."""
    names = ("score", "low", "high")
    clean = {problem: found for problem, found in scores.items() if problem not in (contaminated or {})}
    found = estimates(clean if contaminated is not None else {})
    return {
        "contaminated": contaminated,
        "clean_problems": None if contaminated is None else len(clean),
        **{f"clean_{name}": found[name] for name in names},
    }


def is_in_format(response: str) -> bool:
    """A closed think block with something after it."""
    return "</think>" in response and bool(final_part(response).strip())


def estimates(scores: dict[str, list[float]]) -> dict[str, Any]:
    """avg@n with its interval, and the pass@k curve; all None without an answer."""
    if not scores:
        return {"score": None, "low": None, "high": None, "pass_at_k": {}}
    interval = confidence_interval(list(scores.values()))
    curve = pass_at_k_curve(list(scores.values()))
    return {
        "score": interval.value,
        "low": interval.low,
        "high": interval.high,
        "pass_at_k": {str(k): value for k, value in curve.items()},
    }


def format_rate(in_format: dict[str, list[float]]) -> dict[str, Any]:
    """Share of answers with a closed think block and, after it, an answer of the demanded form; with its interval."""
    if not in_format:
        return {"in_format": None, "in_format_low": None, "in_format_high": None}
    interval = confidence_interval(list(in_format.values()))
    return {"in_format": interval.value, "in_format_low": interval.low, "in_format_high": interval.high}


def by_group(scores: dict[str, list[float]], groups: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Score of every subject or difficulty; nothing where the task knows none."""
    parts: dict[str, list[list[float]]] = defaultdict(list)
    for problem, repetitions in scores.items():
        parts[groups[problem]].append(repetitions)
    if set(parts) <= {""}:
        return {}
    return {name: {"score": average_at_n(part), "problems": len(part)} for name, part in sorted(parts.items())}


def qualifications(task: dict[str, Any]) -> list[str]:
    """What else a score needs: other ways of scoring, the finished answers alone, an unreadable answer."""
    lines = [f"  {name}: {100 * score:.1f}" for name, score in task["details"].items() if not is_depth(name)]
    depths = [f"{name.removeprefix(DEPTH).strip()} {100 * score:.0f}" for name, score in sorted(task["details"].items())
              if is_depth(name)]  # fmt: skip
    if depths:
        lines.append(f"  by needle depth: {', '.join(depths)}")
    if task["contaminated"] is not None:
        lines.append(f"  {clean_line(task)}")
    if task["truncated"] and task["score_of_finished"] is not None:
        lines.append(f"  finished answers alone: {100 * task['score_of_finished']:.1f}")
    if task["unreadable"]:
        example = task["unreadable"][0]
        end = " ".join(example["end"].split())[-80:]
        lines.append(f"  no answer read, for example {example['id']} ({example['verdict']}): ...{end}")
    return lines


def is_depth(name: str) -> bool:
    return name.startswith(DEPTH)


def clean_line(task: dict[str, Any]) -> str:
    """What is known of a task's problems in the training data."""
    count = len(task["contaminated"])
    if task["clean_score"] is None:
        return f"all {count} problems stand in the training data"
    interval = f"{100 * task['clean_low']:.1f} to {100 * task['clean_high']:.1f}"
    return f"without the {count} problems of the training data: {100 * task['clean_score']:.1f} ({interval})"


def table(results: dict[str, Any]) -> str:
    """The results as text for the terminal."""
    lines = [
        f"{'task':24} {'score':>7} {'95 % interval':>16} {'n':>3} {'truncated':>10} {'no answer':>10} {'tokens':>8}"
        f" {'think + answer':>24}"
    ]
    for name, task in results["tasks"].items():
        if task["score"] is None:
            lines.append(f"{name:24} no answers")
            continue
        interval = f"{100 * task['low']:.1f} to {100 * task['high']:.1f}"
        in_format = (
            f"{100 * task['in_format']:.1f} ({100 * task['in_format_low']:.1f} to {100 * task['in_format_high']:.1f})"
        )
        lines.append(
            f"{name:24} {100 * task['score']:7.1f} {interval:>16} {task['repetitions']:3} "
            f"{100 * task['truncated']:9.1f}% {100 * task['without_answer']:9.1f}% {task['mean_tokens']:8.0f}"
            f" {in_format:>24}" + (f"   INCOMPLETE: {task['missing']} answers are missing" if task["missing"] else "")
        )
        lines += qualifications(task)
    curves = [(name, task["pass_at_k"]) for name, task in results["tasks"].items() if len(task["pass_at_k"]) > 1]
    for name, curve in curves:
        lines.append(f"{name:24} pass@k  " + "  ".join(f"{k}: {100 * share:.1f}" for k, share in curve.items()))
    return "\n".join(lines)
