"""The card's record ends at the checkpoint's step, whatever the run did afterwards."""

import dataclasses
import io
import json
from pathlib import Path

import matplotlib.image
import pytest
import yaml

from megatron_mimo.convert.card_results import write_benchmarks, write_results
from megatron_mimo.convert.hf_import import read_license
from megatron_mimo.convert.model_card import model_card
from megatron_mimo.convert.run_record import RunRecord, loss_curve, read_run_record
from megatron_mimo.data.chat.nano import CHECK_WORDINGS
from megatron_mimo.training.metrics import StepMetrics
from support.records import record as checkpoint_record

RUN = checkpoint_record(step=2, consumed_tokens=200)


def step(number: int, loss: float) -> dict:
    metrics = StepMetrics(
        step=number, consumed_tokens=100 * number, stage="one", loss=loss, mtp_losses=[loss + 1], grad_norm=1.0,
        learning_rate=0.1, global_batch_size=1, seq_length=100, rotary_base=10_000, mtp_loss_scaling_factor=0.3,
        step_seconds=1.0, tokens_per_second=100.0, tflops_per_gpu=0.1, mfu=None, memory_bytes=1, skipped=False,
        source_losses={"text": loss}, source_tokens={"text": 100},
    )  # fmt: skip
    return {"kind": "step", **dataclasses.asdict(metrics)}


def evaluation(number: int, loss: float) -> dict:
    return {"kind": "evaluation", "step": number, "consumed_tokens": 100 * number, "losses": {"text": loss}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    rows = [step(1, 5.0), step(2, 4.0), evaluation(2, 4.25), step(3, 3.0), evaluation(3, 3.25)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "command.txt").write_text("torchrun -m megatron_mimo.pretrain run.yaml\n")
    folder = tmp_path / "checkpoints" / "step_00000002"
    folder.mkdir(parents=True)
    return folder


def test_what_came_after_the_checkpoint_is_left_out(checkpoint: Path) -> None:
    record = read_run_record(checkpoint, step=2)
    assert record.command == "torchrun -m megatron_mimo.pretrain run.yaml"
    assert record.held_out_losses == {"text": 4.25}
    assert record.curve == loss_curve([step(1, 5.0), step(2, 4.0)])
    assert record.curve != loss_curve([step(1, 5.0), step(2, 4.0), step(3, 3.0)])
    assert matplotlib.image.imread(io.BytesIO(record.curve)).std() > 0.01, "not an empty picture"


def test_a_checkpoint_without_its_run(tmp_path: Path) -> None:
    assert read_run_record(tmp_path / "checkpoints" / "step_00000002", step=2) == RunRecord()


def test_the_card_shows_it(checkpoint: Path) -> None:
    card = model_card(RUN, read_run_record(checkpoint, step=2))
    assert "(training_curve.png)" in card
    assert "| text | 4.2500 |" in card
    assert "```\ntorchrun -m megatron_mimo.pretrain run.yaml\n```" in card
    assert "Held-out" not in model_card(RUN, RunRecord())


RESULTS = {
    "step": 2,
    "bits_per_byte": {"model": {"all": 1.25, "text": 1.5}, "gzip -9": {"all": 2.0, "text": 2.25}},
    "arithmetic": {"all": {"correct": 9, "total": 10, "accuracy": 0.9, "low": 0.596, "high": 0.982}},
    "speculation": {"all": {"acceptance_rate": 0.75, "draft_tokens": 400}, "none": {"acceptance_rate": None}},
}


def test_results_of_this_very_checkpoint_are_in_its_card(checkpoint: Path) -> None:
    run_folder = checkpoint.parent.parent
    (run_folder / "evaluation.json").write_text(json.dumps(RESULTS))
    (run_folder / "chat.json").write_text(
        json.dumps({"step": 2, "wordings": {wording: {"right": 1, "total": 2} for wording in CHECK_WORDINGS}})
    )
    card = model_card(RUN, read_run_record(checkpoint, step=2))
    assert "| this model | 1.250 | 1.500 |" in card
    assert "| all | 9 of 10 | 90.0% | 59.6% to 98.2% |" in card
    assert "| all | 75.0% | 400 |" in card
    assert "A+B=?" not in card, "the answers of a model that was fine-tuned from it"
    chat_card = model_card(dataclasses.replace(RUN, chat_trained=True), read_run_record(checkpoint, step=2))
    assert "| A+B=? | 1 of 2 |" in chat_card and "| Can you tell me what A plus B is? | 1 of 2 |" in chat_card
    assert "this model" not in model_card(RUN, read_run_record(checkpoint, step=3))


def test_a_later_evaluation_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(model_card(RUN, RunRecord()))
    write_results(tmp_path, RESULTS)
    write_results(tmp_path, {"bits_per_byte": {"model": {"all": 1.125}}})
    card = (tmp_path / "README.md").read_text()
    assert ("1.125" in card, "1.250" in card, "9 of 10" in card) == (True, False, True)
    assert card.index("9 of 10") < card.index("## Made with")
    assert card.count("bits per byte") == 1


def benchmark_results(score: float) -> dict:
    """As eval/summary.py makes it, cut to what the card shows."""
    task = {"score": score, "low": score - 0.1, "high": score + 0.1, "problems": 30, "repetitions": 32}
    task |= {"max_tokens": 32768, "truncated": 0.0125, "missing": 0}
    tasks = {"aime24": task, "harness:x": {"score": 0.5}, "empty": {"score": None, "missing": 3}}
    return {"template": "chat", "seed": 1, "tasks": tasks}


def test_benchmarks_stand_in_the_card_of_an_exported_folder_alone(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    assert write_benchmarks(tmp_path, benchmark_results(0.25)) == ""
    path.write_text("# Somebody's model\n")
    assert write_benchmarks(tmp_path, benchmark_results(0.25)) == ""
    assert path.read_text() == "# Somebody's model\n"
    path.write_text(model_card(RUN, RunRecord()))
    assert str(path) in write_benchmarks(tmp_path, benchmark_results(0.25))
    assert "| aime24 | 25.0% | 15.0% to 35.0% | 30 x 32 | 32,768 | 1.2% |" in path.read_text()
    write_benchmarks(tmp_path, benchmark_results(0.5))
    card = path.read_text()
    assert "| aime24 | 50.0% |" in card and "25.0%" not in card
    assert "| harness:x | 50.0% |  |  |  |  |" in card
    assert "3 answers are missing: INCOMPLETE" in card and "| empty |" not in card
    assert card.index("## Benchmarks") < card.index("## Made with")


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def test_the_card_names_a_licence(tmp_path: Path) -> None:
    assert front_matter(model_card(RUN, RunRecord()))["license"] == "apache-2.0"
    assert front_matter(model_card(dataclasses.replace(RUN, license="mit"), RunRecord()))["license"] == "mit"
    imported = dataclasses.replace(RUN, imported_from="elsewhere")
    assert front_matter(model_card(imported, RunRecord()))["license"] == "unknown"
    assert read_license(tmp_path) == "unknown"
    (tmp_path / "README.md").write_text("---\nlicense: mit\ntags: [a]\n---\n# Model\n")
    assert read_license(tmp_path) == "mit"
    (tmp_path / "README.md").write_text("# Model\n")
    assert read_license(tmp_path) == "unknown"


def test_the_card_asks_what_the_model_knows(checkpoint: Path, tmp_path: Path) -> None:
    """A question, a held-out problem of its own data, or any text; in Python that compiles."""
    problems = tmp_path / "data" / "heldout" / "arithmetic.jsonl"
    problems.parent.mkdir(parents=True)
    problems.write_text(json.dumps({"id": "4+3", "prompt": "Question: 4+3=?\n", "answer": "7"}) + "\n")
    (tmp_path / "config.yaml").write_text(f"data: {{path: {tmp_path / 'data'}}}\n")
    base = model_card(dataclasses.replace(RUN, chat_trained=False), read_run_record(checkpoint, step=2))
    assert "tokenizer('Question: 4+3=?\\n', return_tensors=\"pt\")" in base
    assert "continues text" in base
    chat = model_card(dataclasses.replace(RUN, chat_trained=True), read_run_record(checkpoint, step=2))
    assert "apply_chat_template(messages" in chat
    foreign = model_card(dataclasses.replace(RUN, imported_from="x"), RunRecord())
    assert "The capital of France is" in foreign
    for card in (base, chat, foreign):
        compile(card.split("```python\n")[1].split("```")[0], "card", "exec")
        assert "megatron-mimo serve PATH" in card
        assert "One plus one" not in card
