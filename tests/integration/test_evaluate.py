"""tools/evaluate.py on a real vLLM and a model whose every answer is known."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.known_models import reciting_model
from support.launch import cold_start, python

pytest.importorskip("vllm")
pytestmark = pytest.mark.slow
TOOL = Path(__file__).parents[2] / "tools" / "evaluate.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers \\boxed{7} to anything."""
    return reciting_model(tmp_path_factory.mktemp("evaluate") / "model", list("\\boxed{7}"))


def write_data(folder: Path) -> Path:
    """Two problems with the answer 7, one with 8, one whose prompt is longer than the model's 128 tokens."""
    rows = [("3+4?", "7"), ("9-2?", "\\frac{14}{2}"), ("4+4?", "8"), ("x" * 128, "7")]
    folder.mkdir()
    lines = [json.dumps({"id": i, "problem": problem, "answer": answer}) for i, (problem, answer) in enumerate(rows)]
    (folder / "math_500.jsonl").write_text("\n".join(lines))
    return folder


def evaluate(*arguments: object, start: Any = python) -> subprocess.CompletedProcess[str]:
    return start(str(TOOL), *map(str, arguments), timeout_seconds=400)


def test_a_model_is_evaluated_resumed_and_compared(tmp_path: Path, model: Path) -> None:
    config = tmp_path / "evaluate.yaml"
    config.write_text("tasks:\n  - {task: math_500, repetitions: 2, max_tokens: 32}\n")
    arguments = [config, "--model", model, "--data", write_data(tmp_path / "data"), "--output", tmp_path / "out"]
    done = evaluate(*arguments, start=cold_start)
    assert done.returncode == 0, done.stderr[-3000:]
    task = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]["math_500"]
    assert task["scores"] == {"0": [1.0, 1.0], "1": [1.0, 1.0], "2": [0.0, 0.0]}
    assert (task["refused"], task["missing"], task["truncated"]) == (2, 2, 0.0)
    assert "INCOMPLETE: 2" in done.stdout
    assert "\\boxed{7}" in (tmp_path / "out" / "report" / "math_500-1.html").read_text()

    # One answer is lost; without the refused problem there is one left to draw.
    (samples,) = (tmp_path / "out").glob("cache/*/*.samples.jsonl")
    samples.write_bytes(samples.read_bytes()[:-9])
    again = evaluate(*arguments, "tasks.0.limit=3")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "5 of 6 answers are stored already" in again.stdout
    nothing_to_do = evaluate(*arguments, "tasks.0.limit=3")
    assert "66.7" in nothing_to_do.stdout and "vllm" not in nothing_to_do.stderr.lower()

    out = tmp_path / "out"
    compared = evaluate("compare", out, out, "--output", tmp_path / "comparison.html")
    assert compared.returncode == 0, compared.stderr
    assert "+0.0" in compared.stdout and "MiMo-7B-RL" in (tmp_path / "comparison.html").read_text()


def test_bad_input_is_told_before_the_model_is_loaded(tmp_path: Path, model: Path) -> None:
    data = write_data(tmp_path / "data")
    config = tmp_path / "evaluate.yaml"
    config.write_text("tasks: [{task: math_500}]\n")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"problem": "p", "answer": "1"}\n{"problem"\n')
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    for change, message in [
        (f"tasks.0.path={broken}", "line 2 is not JSON"),
        (f"tasks.0.path={empty}", "holds no problems"),
        ("tasks.0.task=math_501", "is one of"),
        ("tasks.0.repetition=2", "did you mean tasks.0.repetitions"),
    ]:
        done = evaluate(config, "--model", model, "--data", data, "--output", tmp_path / "out", change)
        assert done.returncode == 2 and message in done.stderr, done.stderr[-2000:]
        assert "Traceback" not in done.stderr


def test_a_model_without_a_chat_template_is_told(tmp_path: Path) -> None:
    model = reciting_model(tmp_path / "model", list("7"))
    path = model / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["chat_template"]
    path.write_text(json.dumps(settings))
    config = tmp_path / "evaluate.yaml"
    config.write_text("tasks: [{task: math_500}]\n")
    done = evaluate(config, "--model", model, "--data", write_data(tmp_path / "data"), "--output", tmp_path / "out")
    assert done.returncode == 2 and "no chat template" in done.stderr
