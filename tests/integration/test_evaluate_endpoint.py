"""`megatron-mimo evaluate` against an endpoint: files as downloaded, answers as models write them, one command."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.cli.evaluate import main
from support.chat_server import ChatServer, chat_server

pytestmark = pytest.mark.slow
DATA = Path(os.environ.get("MEGATRON_MIMO_BENCHMARKS", Path(__file__).parents[3] / "shared/data/benchmarks"))


def write(path: Path, *records: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def write_data(folder: Path) -> Path:
    mmlu = folder / "mmlu" / "test"
    mmlu.mkdir(parents=True)
    (mmlu / "law_test.csv").write_text("Is M1 so?,w,x,y,z,A\nIs M2 so?,w,x,y,z,B\nIs M3 so?,w,x,y,z,C\n")
    several = {"options": ["(A)w", "(B)x", "(C)y", "(D)z"]}
    rows = [("A1", ["A", "C"]), ("A2", "D"), ("A3", [])]
    write(folder / "agieval" / "law.jsonl", *(several | {"question": name, "label": label} for name, label in rows))
    sat = {"id": "0", "question": "S1", "options": "A) 1 B) 2 C) 3 D) 4", "Answer": "B"}
    write(folder / "sat_math" / "test.jsonl", sat)
    for part in ("", "2"):
        write(folder / f"test{part}.jsonl", {
            "question_id": f"q{part}", "question_content": f"L{part or 1}: print 1.", "starter_code": "",
            "contest_date": "2024-09-01T00:00:00", "difficulty": "easy", "metadata": "{}", "private_test_cases": "[]",
            "public_test_cases": json.dumps([{"input": "", "output": "1\n", "testtype": "stdin"}]),
        })  # fmt: skip
    return folder


ANSWERS: dict[str, Any] = {
    "M1": "Thus \\boxed{\\text{(a)}}",
    "M2": [{"type": "text", "text": "Thus "}, {"type": "text", "text": "\\boxed{选Ｂ}"}],
    "M3": "\\boxed{A. or C.}",
    "A1": "\\boxed{A and C}",
    "A2": "<think>\\boxed{D} perhaps",
    "S1": "\\boxed{Option B}",
    "L1": "```python\nprint(1)\n```\nExample output:\n```\n1\n```",
    "L2": "<think>draft\n```python\nprint(1)\n```\n still thinking",
}


def test_files_and_answers_of_all_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "evaluate.yaml"
    config.write_text(
        "tasks:\n  - {task: mmlu}\n  - {task: agieval}\n  - {task: sat_math}\n  - {task: aime24}\n"
        '  - {task: livecodebench, first_date: "2024-08-01", end_date: "2025-02-01"}\n'
        "skip_missing: true\ngeneration: {served_model: m}\n"
    )

    def answer(body: dict[str, Any]) -> Any:
        assert body["messages"][0] == {"role": "system", "content": ""}
        return next(said for key, said in ANSWERS.items() if key in body["messages"][-1]["content"])

    with chat_server(ChatServer(answer, faults=[408])) as server:
        data, out = write_data(tmp_path / "data"), tmp_path / "out"
        arguments = [str(config), "--model", server.url, "--data", str(data), "--output", str(out)]
        assert main(arguments) == 0
        stdout = capsys.readouterr().out
        # What is stored is read again, the answer in parts too.
        assert main(arguments) == 0
        assert len(server.bodies) == 9
    tasks = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]
    scores = {name: [sum(score) for _, score in sorted(task["scores"].items())] for name, task in tasks.items()}
    assert scores == {"mmlu": [1, 1, 0], "agieval": [1, 0], "sat_math": [1], "livecodebench": [1, 0]}
    unreadable = {name: task["without_answer"] for name, task in tasks.items()}
    assert unreadable == {"mmlu": pytest.approx(1 / 3), "agieval": 0.5, "sat_math": 0.0, "livecodebench": 0.5}
    assert "no single letter" in tasks["mmlu"]["unreadable"][0]["verdict"]
    for said in ("left out: task aime24", "1 of 3 records left out", "read test.jsonl, test2.jsonl", "279"):
        assert said in stdout, said


def test_ifevals_verdicts_are_the_published_ones(tmp_path: Path) -> None:
    """GPT-4's responses, given again by an endpoint; strict by prompt."""
    pytest.importorskip("lm_eval")
    folder = DATA / "ifeval"
    if not folder.is_dir():
        pytest.skip(f"no ifeval in {DATA}")
    published = [json.loads(line) for line in (folder / "ifeval_gpt4_strict.jsonl").read_text().splitlines()]
    responses = {row["prompt"]: row["response"] for row in published}
    config = tmp_path / "evaluate.yaml"
    config.write_text(
        f"tasks: [{{task: ifeval, path: {folder / 'ifeval_input.jsonl'}}}]\ngeneration: {{served_model: m}}\n"
    )
    with chat_server(ChatServer(lambda body: responses[body["messages"][-1]["content"]])) as server:
        assert main([str(config), "--model", server.url, "--output", str(tmp_path / "out")]) == 0
    task = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]["ifeval"]
    asked = [json.loads(line) for line in Path(task["problems_file"]).read_text().splitlines()]
    verdicts = {row["prompt"]: row["follow_all_instructions"] for row in published}
    agreeing = [task["scores"][row["id"]] == [float(verdicts[row["asked"]])] for row in asked]
    print(f"{sum(agreeing)} of {len(agreeing)} verdicts agree")
    assert len(agreeing) >= 540 and sum(agreeing) >= 0.99 * len(agreeing)
