"""Benchmarks inside of a real run: two tensor-parallel ranks train, vLLM answers with the weights of the moment."""

import json
from pathlib import Path

import pytest

from megatron_mimo.convert.export import export_checkpoint
from megatron_mimo.eval.engines import folder_identity
from megatron_mimo.training.metrics import read_metrics
from support.launch import ranks
from support.needs import needs
from support.tiny import make_tiny_data, tiny_tree, write_run

pytestmark = pytest.mark.slow
NUM_QUESTIONS = 4
PRETRAIN = """
import runpy, sys
sys.executable = sys.argv.pop(1)  # of the evaluations that it starts
runpy.run_module("megatron_mimo.pretrain", run_name="__main__", alter_sys=True)
"""


def test_the_answers_are_those_of_the_weights_of_the_step(tmp_path: Path, vllm_python: str) -> None:
    needs("vllm")
    data, output = make_tiny_data(tmp_path), tmp_path / "run"
    questions = [{"id": i, "prompt": f"{i} the token", "answer": str(i)} for i in range(NUM_QUESTIONS)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    tree = tiny_tree(data, output, steps=8)
    # vLLM takes hidden_size / num_attention_heads for the head size, and its CPU attention wants 32 of it.
    tree["model"] |= {"num_attention_heads": 2, "num_query_groups": 2, "kv_channels": 32}
    tree["parallel"] = {"tensor_model_parallel_size": 2}
    tree["checkpoint"]["save_at_end"] = True
    tree["guard"]["hang_timeout_seconds"] = 400
    task = {"task": "questions", "path": str(tmp_path / "questions.jsonl"), "temperature": 0.0, "max_tokens": 8}
    evaluate = {"tasks": [task], "generation": {"template": "plain", "seq_length": 64, "max_concurrent_requests": 4}}
    tree["evaluation"]["scores"] = {"every_tokens": 4 * 512, "timeout_seconds": 300, "evaluate": evaluate}

    # vLLM computes in its engine's process; with a worker process, its default, it runs in test_evaluate.py.
    program = ("-c", PRETRAIN, vllm_python, str(write_run(tmp_path, tree)))
    done = ranks(2, *program, timeout_seconds=800, VLLM_ENABLE_V1_MULTIPROCESSING="0")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "no scores" not in done.stdout, done.stdout[-3000:]

    scores = read_metrics(output / "metrics.jsonl").scores
    assert [row.step for row in scores] == [4, 8]
    # Two sets of weights have answered, and the second are those of the last checkpoint, to the byte.
    answered = {folder.name for folder in (output / "scores" / "cache").iterdir()}
    export_checkpoint(output / "checkpoints" / "step_00000008", tmp_path / "hf")
    assert len(answered) == 2 and folder_identity(tmp_path / "hf") in answered
    for journal in (output / "scores" / "cache").glob("*/*.samples.jsonl"):
        assert len(journal.read_text().splitlines()) == NUM_QUESTIONS
    assert not [*(output / "scores").glob("step_*")]
    assert "Benchmarks during the run" in (output / "report.html").read_text()
