"""Fine-tuning as a user starts it: full and low-rank, several layouts, resumed, merged, and through PEFT."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from megatron_mimo.convert.export import export_checkpoint
from megatron_mimo.convert.lora import export_adapter
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from support.launch import ranks, torchrun
from support.tiny import TEXT, tiny_tree, write_run

pytestmark = pytest.mark.slow

WORDS = TEXT.split(" ")


def write_chat(path: Path) -> Path:
    """Forty conversations of one or two turns, some of whose answers are short and some long, and a broken line."""
    generator = random.Random(1)
    lines = []
    for number in range(40):
        turns = []
        for _ in range(1 + number % 2):
            asked = " ".join(generator.choices(WORDS, k=generator.randrange(1, 4)))
            said = " ".join(generator.choices(WORDS, k=generator.randrange(1, 3 + number % 10)))
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        lines.append(json.dumps({"messages": turns}))
    path.write_text("\n".join([*lines, '{"messages": [']) + "\n")
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A checkpoint of a few steps of pre-training."""
    folder = tmp_path_factory.mktemp("base")
    tree = tiny_tree(tiny_data, folder / "run", steps=4) | {"checkpoint": {"every_steps": 4}}
    done = ranks(2, "-m", "megatron_mimo.pretrain", str(write_run(folder, tree)))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run" / "checkpoints" / "step_00000004"


def sft_tree(folder: Path, data: Path, base: Path, **changes: Any) -> dict[str, Any]:
    chat = write_chat(folder / "chat.jsonl")
    tree = {key: value for key, value in tiny_tree(data, folder / "run").items() if key in ("name", "model")}
    return tree | {
        "output_dir": str(folder / "run"),
        "num_threads": 1,
        "start": {"checkpoint": str(base)},
        "data": {
            "sources": [{"path": str(chat)}],
            "tokenizer": str(data / "tokenizer"),
            "prepared": str(folder / "prepared"),
            "valid_share": 0.2,
            "num_workers": 0,
        },
        "seq_length": 128,
        "rotary_base": 640_000,
        "epochs": 3,
        "global_batch_size": 4,
        "learning_rate": 1e-3,
        "mtp_loss_scaling_factor": 0.3,
        "precision": {"dtype": "fp32"},
        "evaluation": {"sequences": 2},
        "checkpoint": {"every_steps": 4},
    } | changes  # fmt: skip


def sft_output(folder: Path, tree: dict[str, Any], processes: int, start: Any = ranks) -> str:
    """Run it; what it writes to the terminal."""
    path = folder / "sft.yaml"
    path.write_text(yaml.safe_dump(tree))
    done = start(processes, "-m", "megatron_mimo.sft", str(path))
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def sft(folder: Path, tree: dict[str, Any], processes: int, start: Any = ranks) -> list[tuple[float, ...]]:
    """Run it; the losses of every step."""
    sft_output(folder, tree, processes, start)
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [(row["loss"], *row["mtp_losses"]) for row in rows if row["kind"] == "step"]


TENSOR_PARALLEL = {"tensor_model_parallel_size": 2, "sequence_parallel": True}
PIPELINE_PARALLEL = {"pipeline_model_parallel_size": 2}


@pytest.mark.parametrize(
    ("lora", "parallel", "resumed"),
    [(None, PIPELINE_PARALLEL, False), ({"rank": 4, "alpha": 16.0}, TENSOR_PARALLEL, True)],
    ids=["full", "lora"],
)
def test_every_layout_learns_the_same_and_a_run_resumes(
    lora: dict[str, Any] | None, parallel: dict, resumed: bool, base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    curves = {}
    for name, processes, layout in (("one", 1, {}), ("two", 2, parallel)):
        folder = tmp_path / name
        folder.mkdir()
        tree = sft_tree(folder, tiny_data, base, lora=lora, parallel=layout)
        if name == "two" and resumed:
            sft(folder, tree | {"max_steps": 4}, processes, start=torchrun)
        curves[name] = sft(folder, tree, processes)
    assert curves["one"][-1][0] < curves["one"][0][0] - (0.05 if lora else 0.3), "it learns"
    assert len(curves["two"]) == len(curves["one"])
    torch.testing.assert_close(torch.tensor(curves["two"]), torch.tensor(curves["one"]), atol=2e-5, rtol=0)
    refused = (tmp_path / "one" / "prepared" / "refused.jsonl").read_text()
    assert "chat.jsonl:41" in refused
    assert "not JSON" in refused
    newest = max((tmp_path / "two" / "run" / "checkpoints").iterdir())  # of a resumed run, once
    assert [json.loads((each / "run.json").read_text())["chat_trained"] for each in (base, newest)] == [False, True]


def test_merged_and_adapted_models_are_the_same(base: Path, tiny_data: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    tree = sft_tree(tmp_path, tiny_data, base, lora={"rank": 4, "alpha": 16.0, "dropout": 0.1}, seq_length=96)
    tree["data"]["valid_share"] = 0.0  # nothing is held out, and the run ends well
    said = sft_output(tmp_path, tree, 1)
    assert "nothing is held out: stage sft is not evaluated" in said
    assert "sequences of 96 tokens; the starting weights are made for 128, which stays so" in said
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    assert any(
        "max_position_embeddings stays at 128" in note for note in export_checkpoint(newest, tmp_path / "merged")
    )
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert (config["max_position_embeddings"], config["rope_theta"], config["thinks"]) == (128, 640_000.0, False)
    export_checkpoint(base, tmp_path / "base")
    # Four decoder layers and the MTP layer: q, k, v, o, gate, up, down each, and the MTP layer's projection.
    assert export_adapter(newest, tmp_path / "adapter") == 5 * 7 + 1
    before, after = TorchDistCheckpoint(base), TorchDistCheckpoint(newest)
    assert all(torch.equal(before.read(name), after.read(name)) for name in before.shapes), "the base is frozen"

    tokens = torch.randint(0, 290, (2, 40), generator=torch.Generator().manual_seed(0))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", trust_remote_code=True, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", trust_remote_code=True, dtype=torch.float32)
    plain = model(tokens, output_mtp_logits=True)
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "adapter")
    expected, actual = merged(tokens, output_mtp_logits=True), adapted(tokens, output_mtp_logits=True)
    for name in ("logits", "mtp_logits"):
        assert (getattr(plain, name) - getattr(expected, name)).abs().max() > 1e-2
        torch.testing.assert_close(getattr(actual, name), getattr(expected, name), atol=2e-5, rtol=1e-4)
