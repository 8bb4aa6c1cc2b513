"""tools/evaluate.py on a real vLLM and a model whose every answer is known."""

import json
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_mimo.config.eval import TaskConfig
from megatron_mimo.data.tokens.tokenizer import train_tokenizer
from megatron_mimo.eval.few_shot.task import FewShot
from megatron_mimo.eval.registry import find_task
from support.known_models import reciting_model, transparent_weights, write_model
from support.launch import cold_start, environment
from support.needs import needs
from support.patience import patience
from support.scripts import load_script

needs("vllm")
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


@pytest.fixture(scope="module")
def evaluate(vllm_python: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The tool, forked. vLLM computes in its engine's process, not in a worker of it, its default: see `cold_start`."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [vllm_python, str(TOOL), *map(str, arguments)],
            env=environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"),
            capture_output=True,
            text=True,
            timeout=patience(400),
        )

    return run


def test_a_model_is_evaluated_resumed_and_compared(tmp_path: Path, model: Path, evaluate) -> None:
    config = tmp_path / "evaluate.yaml"
    config.write_text("tasks:\n  - {task: math_500, repetitions: 2, max_tokens: 32}\n")
    arguments = [config, "--model", model, "--data", write_data(tmp_path / "data"), "--output", tmp_path / "out"]
    done = cold_start(str(TOOL), *map(str, arguments), timeout_seconds=400)
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


def test_bad_input_is_told_before_the_model_is_loaded(tmp_path: Path, model: Path, evaluate) -> None:
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


def test_a_model_without_a_chat_template_is_told(tmp_path: Path, evaluate) -> None:
    model = reciting_model(tmp_path / "model", list("7"))
    path = model / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["chat_template"]
    path.write_text(json.dumps(settings))
    config = tmp_path / "evaluate.yaml"
    config.write_text("tasks: [{task: math_500}]\n")
    done = evaluate(config, "--model", model, "--data", write_data(tmp_path / "data"), "--output", tmp_path / "out")
    assert done.returncode == 2 and "no chat template" in done.stderr


def test_log_likelihoods_are_those_of_transformers(tmp_path: Path, evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the MTP layer drafting: letters, asked for by id in one request, and longer choices. Scores are those of
    lm-evaluation-harness by item, where it is installed."""
    import torch

    from megatron_mimo.eval.engines import encode_pair, load_tokenizer
    from megatron_mimo.eval.huggingface import HuggingFaceScorer

    generator = torch.Generator().manual_seed(0)
    weights = {
        name: tensor if "norm" in name else torch.randn(tensor.shape, generator=generator) * 0.3
        for name, tensor in transparent_weights().items()
    }
    model = write_model(tmp_path / "model", weights, train_tokenizer(["some words"], vocab_size=268), seq_length=256)
    data = tmp_path / "data"
    data.mkdir()
    letters = [f"Which of {i}?,one,two,three,four,{'ABCD'[i % 4]}" for i in range(25)]
    (data / "mmlu" / "test").mkdir(parents=True)
    (data / "mmlu" / "test" / "high_school_physics_test.csv").write_text("\n".join(letters))
    endings = [["runs away", "sits", f"eats {i} apples", "sings a song"] for i in range(25)]
    rows = [
        {"activity_label": "Day", "ctx_a": f"On day {i}", "ctx_b": "he", "endings": one, "label": str(i % 4)}
        for i, one in enumerate(endings)
    ]
    (data / "hellaswag_val.jsonl").write_text("\n".join(map(json.dumps, rows)))
    hub = {"base_mmlu": hub_form(letters), "base_hellaswag": rows}
    config = tmp_path / "evaluate.yaml"
    config.write_text("tasks: [{task: base_mmlu, num_shots: 0}, {task: base_hellaswag, num_shots: 0}]\n")
    done = evaluate(config, "--model", model, "--data", data, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-3000:]

    scorer, tokenizer = HuggingFaceScorer.load(model), load_tokenizer(model)
    results = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]
    for name in ("base_mmlu", "base_hellaswag"):
        task = find_task(TaskConfig(task=name, num_shots=0))
        assert isinstance(task, FewShot)
        problems = {problem.id: problem for problem in task.load(*task.find(str(data), None))}
        rows = [json.loads(line) for line in Path(results[name]["answers_file"]).read_text().splitlines()]
        assert len(rows) == 25
        for row in rows:
            for (context, continuation), ours in zip(
                problems[row["problem"]].pairs, json.loads(row["response"]), strict=True
            ):
                ids, tokens = encode_pair(lambda text: tokenizer.encode(text), context, continuation)
                theirs = scorer(np.array([[*ids, *tokens]]))[0, -len(tokens) :].sum()
                assert ours == pytest.approx(float(theirs), abs=0.05)
        assert set(results[name]["details"]) == {"log_likelihood", "per_character"}
        if find_spec("lm_eval") is not None:
            metric = "acc" if name == "base_mmlu" else "acc_norm"
            ours = [results[name]["scores"][problem][0] for problem in problems]
            assert ours == harness_scores(model, name, hub[name], tmp_path / name, monkeypatch)[metric]


def hub_form(letters: list[str]) -> list[dict[str, Any]]:
    fields = [line.split(",") for line in letters]
    return [{"question": one[0], "choices": one[1:5], "answer": "ABCD".index(one[5])} for one in fields]


def harness_scores(
    model: Path, name: str, rows: list[dict[str, Any]], folder: Path, patch: pytest.MonkeyPatch
) -> dict[str, list[float]]:
    """By item, of lm-evaluation-harness' own task and `hf` backend."""
    patch.setenv("HF_DATASETS_OFFLINE", "1")
    patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    bench = load_script("benchmarks/likelihoods.py")
    for split in ("train", "dev", "validation", "test"):
        bench.write(folder / "hub" / bench.TASKS[name] / f"{split}.jsonl", rows)
    return bench.by_harness(model, name, folder, 0)
