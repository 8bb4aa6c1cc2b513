"""Curation as commands: every planted problem is dropped for its reason and nothing else; rollouts are resumed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from megatron_mimo.cli import curate_problems
from megatron_mimo.clients.endpoint import Completion, RequestFailed, Sampling
from megatron_mimo.judge.request import CallTest
from megatron_mimo.reward.router import Reward
from megatron_mimo.rl.problems import curate
from megatron_mimo.rl.problems.difficulty_config import DifficultyConfig
from megatron_mimo.rl.problems.problem import Problem, read_problems, write_problems
from megatron_mimo.rl.problems.rollouts import RolloutFile, read_rollouts, roll_out

WORDS = ["apple", "river", "stone", "cloud", "tiger", "lemon", "piano", "green", "seven", "north", "candle", "bridge"]


def sums(number: int) -> list[dict[str, Any]]:
    """Different problems: no eight words in common."""
    return [
        {
            "id": f"good{n}",
            "problem": f"Find {' '.join(WORDS[(n * (k + 1) + k) % 12] + str(n * 7 + k) for k in range(10))} plus {n}.",
            "answer": str(n),
        }
        for n in range(number)
    ]


PLANTED = {
    "proof": {"problem": "Prove that there are infinitely many primes of the form $4k+3$.", "answer": "true"},
    "multiple choice": {"problem": "Which is largest? (A) $2^{10}$ (B) $10^3$ (C) $5^4$ (D) 999", "answer": "A"},
    "no answer": {"problem": "How many trees are in the old garden behind the mill?", "answer": " "},
    "no prompt": {"problem": "  ", "answer": "3"},
}


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def dropped(output: Path) -> dict[str, str]:
    lines = curate.beside(output, ".dropped.jsonl").read_text().splitlines()
    return {(one := json.loads(line))["problem"]["id"]: one["reason"] for line in lines}


def test_form_and_dedup_drop_what_was_planted_and_nothing_else(tmp_path: Path) -> None:
    good = sums(60)
    bad = [{"id": reason, **record} for reason, record in PLANTED.items()]
    again = [{**good[n], "id": f"again{n}"} for n in range(0, 60, 10)]
    raw = write_lines(tmp_path / "raw.jsonl", [*good, *bad, *again])
    with raw.open("a") as file:
        file.write(json.dumps({"question": "an answer is missing"}) + "\n")
    formed, unique = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    assert curate_problems.main(["form", str(raw), str(formed), "--format", "math"]) == 0
    assert dropped(formed) == {reason: reason for reason in PLANTED}
    report = json.loads(curate.beside(formed, ".report.json").read_text())
    assert (report["kept"], report["unreadable"]) == (66, 1)
    assert curate_problems.main(["ngram_dedup", str(formed), str(unique)]) == 0
    assert dropped(unique) == {one["id"]: "repetition" for one in again}
    assert [problem.id for problem in read_problems(unique)] == [one["id"] for one in good]


def test_bad_calls_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "raw.jsonl", sums(1))
    for arguments in (
        ["golden", str(path)],
        ["form", str(path), str(path)],
        ["levels", str(path), str(tmp_path / "o")],
    ):
        assert curate_problems.main(arguments) == 2
    assert "rollouts" in capsys.readouterr().err


class Model:
    """Solves a problem in the share of rollouts that its name says; some requests fail at first."""

    def __init__(self, fails: int = 0) -> None:
        self.fails, self.asked = fails, 0

    async def chat(self, messages: list[dict[str, str]], sampling: Sampling, seed: int | None = None) -> Completion:
        self.asked += 1
        if self.asked <= self.fails:
            raise RequestFailed("no answer from the endpoint", "down", final=False)
        return Completion(f"{seed}", "stop")


class Scorer:
    """The first `rate` of sixteen rollouts are right; of code they pass both tests, the others the easy one."""

    def __init__(self, rates: dict[str, int]) -> None:
        self.rates = rates

    async def reward(self, problem: Any, response: str) -> Reward:
        name = problem.answer if hasattr(problem, "answer") else problem.tests[0].function
        right = int(response) < self.rates[name]
        passed = () if hasattr(problem, "answer") else (True, right)
        return Reward(value=float(right), accuracy=float(right), passed=passed)


def math_problem(name: str) -> Problem:
    return Problem(id=name, prompt=name, kind="math", answer=name)


def code_problem(name: str) -> Problem:
    tests = [CallTest(function=name, arguments=[n], expected=n) for n in range(2)]
    return Problem(id=name, prompt=name, kind="code", tests=list(tests))


def rolled(path: Path, model: str, problems: list[Problem], rates: dict[str, int], fails: int = 0) -> RolloutFile:
    file = RolloutFile(path, model)
    work = roll_out(
        problems,
        file,
        Model(fails),
        Scorer(rates),
        num_rollouts=16,
        sampling=Sampling(),
        instruction=lambda _: "",
        max_open_problems=3,
    )
    asyncio.run(work)
    return file


def test_difficulty_and_levels(tmp_path: Path) -> None:
    names = ["easy", "kept", "limit", "hopeless"]
    problems = [*map(math_problem, names), code_problem("solved"), code_problem("half")]
    trained = {"easy": 15, "kept": 8, "limit": 14, "hopeless": 0, "solved": 16, "half": 5}
    advanced = {"easy": 16, "kept": 16, "limit": 16, "hopeless": 0, "solved": 16, "half": 16}
    output = tmp_path / "chosen.jsonl"
    files = [
        rolled(tmp_path / "trained", "sft", problems, trained),
        rolled(tmp_path / "advanced", "big", problems, advanced),
    ]
    endpoint = {"url": "http://localhost:1/v1", "model": "sft"}
    config = msgspec.convert({"trained": endpoint}, DifficultyConfig)
    report = curate.decide(problems, files, output, config, {})
    assert dropped(output) == {"easy": "too easy", "hopeless": "unsolved", "solved": "too easy"}
    kept = {problem.id: problem.pass_rate for problem in read_problems(output)}
    assert kept == {"kept": 0.5, "limit": 14 / 16, "half": 5 / 16}
    assert report["kept"] == 3

    final = tmp_path / "train.jsonl"
    arguments = ["levels", str(output), str(final), "--rollouts", str(tmp_path / "trained"), "--scores", "1", "3"]
    assert curate_problems.main(arguments) == 0
    by_id = {problem.id: problem for problem in read_problems(final)}
    assert (by_id["half"].levels, by_id["half"].scores) == ([0, 1], [1.0, 3.0])
    assert by_id["kept"].levels is None


def test_rollouts_are_resumed_and_faults_asked_again(tmp_path: Path) -> None:
    path, problems = tmp_path / "rollouts", [math_problem("a"), math_problem("b")]
    file = rolled(path, "m", problems, {"a": 16, "b": 0}, fails=5)
    scored = [rollout for rollout in read_rollouts(path) if rollout.solved is not None]
    assert len(scored) == 27 and len(file.missing("a", 16)) + len(file.missing("b", 16)) == 5
    with path.open("ab") as cut:
        cut.write(b'{"problem": "a", "model": "m", "sam')
    again = RolloutFile(path, "m")
    assert len(again.missing("a", 16)) + len(again.missing("b", 16)) == 5


def test_a_problem_file_goes_through_golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the judge: the step's own test runs real programs."""
    from megatron_mimo.judge import JudgeResult, Verdict
    from megatron_mimo.judge import TestResult as Result
    from megatron_mimo.rl.problems.golden import GoldenSolution

    class Judge:
        def judge_now(self, solution: Any, tests: list, **_: object) -> JudgeResult:
            verdict = Verdict.ACCEPTED if "right" in solution.source else Verdict.WRONG_ANSWER
            return JudgeResult.of([Result(verdict=verdict) for _ in tests])

    monkeypatch.setattr(GoldenSolution, "run", lambda self, documents, task: self.check(documents, task, Judge()))
    problems = [code_problem("one"), code_problem("two"), code_problem("three")]
    problems[0].golden, problems[1].golden = "right", "wrong"
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_problems(source, problems)
    assert curate_problems.main(["golden", str(source), str(output)]) == 0
    assert dropped(output) == {"two": "golden solution: wrong_answer"}
    assert [problem.id for problem in read_problems(output)] == ["one", "three"]
