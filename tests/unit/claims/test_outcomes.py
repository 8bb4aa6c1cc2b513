"""The outcomes of models and RL runs, problem by problem."""

import json
import math
from pathlib import Path

import pytest

from megatron_mimo.claims import measure, rl_outcomes
from megatron_mimo.config.errors import UserError
from megatron_mimo.serve.vllm_engine import GroupGeneration, PromptGroup


def graded(level: int, number: int) -> str:
    return f"Level {level}: {number}+1=?\n{number}+1: ={number + 1}\nAnswer: \\boxed{{{number + 1}}}"


def test_pass_at_k_of_the_first_problems_of_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = measure.graded_problems({"graded": [graded(level, n) for n in range(30) for level in (1, 2)]})
    chosen = measure.first_of_levels(problems)
    assert [problem.name for problem in chosen] == [f"{n}+1" for n in range(25)] * 2
    asked: list[PromptGroup] = []

    def generate(model: Path, groups: list[PromptGroup], num_drafts: int) -> dict[str, GroupGeneration]:
        """Two of four answers right to 1+1, all to 2+1, none to the others."""
        asked.extend(groups)
        right = {1: 2, 2: 4}
        texts = []
        for place, prompt in enumerate(groups[0].prompts):
            number = int(str(prompt).split(": ")[1].split("+")[0])
            texts.append(f"\\boxed{{{number + 1 if place % 4 < right.get(number, 0) else 999}}}")
        return {"sampled": GroupGeneration(texts, 1, 1.0, 0, 0)}

    monkeypatch.setattr("megatron_mimo.serve.vllm_engine.generate", generate)
    found = measure.pass_at(Path("model"), chosen[:25], 4)
    assert len(asked[0].prompts) == 100 and asked[0].temperature == 1
    assert (found["pass@1"]["1+1"], found["pass@4"]["1+1"], found["pass@4 - pass@1"]["1+1"]) == (0.5, 1.0, 0.5)
    assert (found["pass@1"]["2+1"], found["pass@4"]["2+1"]) == (1.0, 1.0)
    assert (found["pass@1"]["3+1"], found["pass@4"]["3+1"]) == (0.0, 0.0)


def rl_run(folder: Path, num_validations: int = 2) -> Path:
    rows = [
        {
            "kind": "step",
            "step": step,
            "trainer": {"grad_norm": math.exp(step % 2), "entropy": 0.1 * step},
            "outcomes": {"selected": 4},
            "generated_tokens": 100,
            "selected_tokens": 20.0 + step,
            "rollout_seconds": 2.0,
            "reward": 0.5,
        }
        for step in range(1, 9)
    ]
    problems = [
        {
            "kind": "validation",
            "step": 8 * place,
            "problems": {"sum/0": {"a": 0.25 + 0.5 * place}, "program": {"f": 0.5}},
        }
        for place in range(num_validations)
    ]
    folder.mkdir()
    (folder / "config.yaml").write_text("precision: {dtype: fp32}")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "validation_problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    return folder


def test_outcomes_of_an_rl_run(tmp_path: Path) -> None:
    rl_outcomes.run(rl_run(tmp_path / "run"), tmp_path / "outcomes.json")
    written = json.loads((tmp_path / "outcomes.json").read_text())
    found = written["outcomes"]
    assert written["precision"] == "fp32"
    assert found["start/all"] == {"a": 0.25, "f": 0.5} and found["end/all"] == {"a": 0.75, "f": 0.5}
    assert found["end/sum"] == {"a": 0.75} and found["end/program"] == {"f": 0.5}
    assert found["entropy"] == {"step 007": pytest.approx(0.7), "step 008": pytest.approx(0.8)}
    # Four norms of e and four of 1: logarithms 1 and 0.
    assert found["gradient norm spread"]["run"] == pytest.approx(math.sqrt(8 * 0.25 / 7))
    assert found["tokens per group"]["run"] == 25
    assert found["selected tokens"]["step 003"] == 23 and len(found["first reward"]) == 5


def test_a_run_that_was_not_measured_at_both_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="before and after"):
        rl_outcomes.run(rl_run(tmp_path / "run", num_validations=1), tmp_path / "outcomes.json")
