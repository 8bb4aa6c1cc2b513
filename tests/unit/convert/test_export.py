"""From a torch_dist checkpoint to a Hugging Face folder, through the command line's own function and as a program."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from megatron_mimo.convert import mimo, ops
from megatron_mimo.convert.hf_import import import_checkpoint
from megatron_mimo.convert.huggingface import is_chat_model

DATA = {"text": {"domain": "web", "train": {"documents": 545, "tokens": 707_860}}}


@pytest.fixture
def run_export(convert_checkpoint, tokenizer_folder, tmp_path, capsys):
    """`run(checkpoint)` -> (exit code, standard output, standard error); writes to tmp_path/model."""

    def run(checkpoint: Path, tokenizer: Path | None = tokenizer_folder) -> tuple[int, str, str]:
        arguments = ["export", "--megatron-path", str(checkpoint), "--hf-path", str(tmp_path / "model")]
        code = convert_checkpoint(arguments + (["--tokenizer", str(tokenizer)] if tokenizer else []))
        return code, *capsys.readouterr()

    return run


def assert_refused(result: tuple[int, str, str], folder: Path, *texts: str) -> None:
    code, _, errors = result
    assert code == 2
    assert [text for text in texts if text not in errors] == [], errors
    assert not (folder / "model").exists()
    assert not list(folder.glob(".model*"))


def test_weights_config_and_card(write_checkpoint, megatron_weights, run_export, nano, tmp_path: Path) -> None:
    code, output, errors = run_export(
        write_checkpoint(megatron_weights, versions={"torch": "2.13", "apex": "not installed"}, data=DATA)
    )
    assert (code, errors) == (0, "")
    assert "wrote" in output
    # The test's heads are smaller than any that vLLM computes on CPUs; nothing else is to be noted.
    assert "note: vLLM has no attention for kv_channels=8 on CPUs" in output and output.count("note:") == 1
    stored = {k: t for path in (tmp_path / "model").glob("*.safetensors") for k, t in load_file(path).items()}
    assert stored.keys() == mimo.hugging_face_shapes(nano).keys()
    back = dict(ops.to_megatron(mimo.mimo_ops(nano), stored.__getitem__))
    assert all(torch.equal(back[name], tensor) for name, tensor in megatron_weights.items())
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["rope_theta"], config["max_position_embeddings"]) == (640_000.0, 128), "the stage of the checkpoint"
    card = (tmp_path / "model" / "README.md").read_text()
    assert "1,234 tokens in 7 steps" in card
    assert "Training started from" not in card
    assert "| two | 500 | 128 | 640,000 | two |" in card
    assert "last stage was `two`" in card
    assert "| text | web | 545 | 707,860 |" in card
    assert card.rstrip().endswith("- torch 2.13")
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (tmp_path / "model").iterdir()), "others can read it"


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ({"stage": 0, "samples_in_stage": 9}, (10_000.0, 64)),
        ({"stage": 1, "samples_in_stage": 0}, (10_000.0, 64)),  # saved at the boundary: stage two has not begun
        ({"stage": 1, "samples_in_stage": 1}, (640_000.0, 128)),
        ({"stage": 0, "samples_in_stage": 0}, (10_000.0, 64)),
    ],
)
def test_rope_base_is_that_of_the_last_step(
    write_checkpoint, megatron_weights, run_export, tmp_path: Path, position: dict, expected: tuple
) -> None:
    assert run_export(write_checkpoint(megatron_weights, **position))[0] == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["rope_theta"], config["max_position_embeddings"]) == expected


@pytest.mark.parametrize("trained", [True, False, None])
def test_the_folder_says_whether_it_has_learned_to_chat(
    write_checkpoint, megatron_weights, run_export, tmp_path: Path, trained: bool | None
) -> None:
    """Where nobody knows, it says nothing; an import keeps what a folder says."""
    changes = {} if trained is None else {"chat_trained": trained}
    assert run_export(write_checkpoint(megatron_weights, **changes))[0] == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config.get("chat_trained"), config["trained_steps"]) == (trained, 7)
    assert is_chat_model(tmp_path / "model") == bool(trained), "its tokenizer has no template"
    import_checkpoint(tmp_path / "model", tmp_path / "step_00000000")
    run = json.loads((tmp_path / "step_00000000" / "run.json").read_text())
    assert run["chat_trained"] == trained
    assert run["license"] == "apache-2.0"


@pytest.mark.parametrize("chats", [False, True])
def test_the_cards_python_runs(write_checkpoint, megatron_weights, run_export, tmp_path: Path, capsys, chats) -> None:
    assert run_export(write_checkpoint(megatron_weights, chat_trained=chats))[0] == 0
    folder = tmp_path / "model"
    if chats:
        (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}{{ 'Answer:' }}")
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(code.replace("PATH", repr(str(folder))))
    said = capsys.readouterr().out
    assert said.startswith("What is 47+38?Answer:" if chats else "The capital of France is")


def test_a_model_engines_compute_otherwise_is_noted(write_checkpoint, megatron_weights, run_export, nano) -> None:
    model = dataclasses.asdict(dataclasses.replace(nano, mtp_hidden_state="after_final_norm"))
    code, output, _ = run_export(write_checkpoint(megatron_weights, model=model))
    assert code == 0
    assert "note: The MTP layers were trained with mtp_hidden_state=after_final_norm" in output


def test_wrong_tensors_are_all_named(write_checkpoint, megatron_weights, run_export, tmp_path: Path) -> None:
    wrong = dict(megatron_weights)
    del wrong["mtp.layers.0.eh_proj.weight"]
    wrong["mtp.layers.0.surprise"] = torch.zeros(3)
    wrong["output_layer.weight"] = torch.zeros(10, 32)
    result = run_export(write_checkpoint(wrong))
    assert_refused(
        result,
        tmp_path,
        "missing   mtp.layers.0.eh_proj.weight [32, 64]",
        "extra     mtp.layers.0.surprise [3]",
        "misshaped output_layer.weight: [10, 32], the model needs [384, 32]",
    )


def test_incomplete_damaged_or_foreign_checkpoints(
    write_checkpoint, megatron_weights, run_export, tmp_path: Path
) -> None:
    folder = write_checkpoint(megatron_weights)
    run = json.loads((folder / "run.json").read_text())
    for changes, text in (
        ({"stage": 2}, "is not a run.json of this project"),
        ({"model": run["model"] | {"num_query_groups": 3}}, "num_query_groups"),
        ({"config": {}}, "is not a run.json of this project"),
        ({"tokenizer_sha256": "0" * 64}, "not the tokenizer the model was trained with"),
    ):
        (folder / "run.json").write_text(json.dumps(run | changes))
        assert_refused(run_export(folder), tmp_path, text)
    (folder / "run.json").write_text("{")
    assert_refused(run_export(folder), tmp_path, "is not a complete checkpoint")
    (folder / "run.json").unlink()
    assert_refused(run_export(folder), tmp_path, "is not a complete checkpoint")
    assert_refused(run_export(tmp_path / "nowhere"), tmp_path, "is not a complete checkpoint")


def test_tokenizer_of_the_run(write_checkpoint, megatron_weights, run_export, tokenizer_folder, tmp_path: Path) -> None:
    """The training configuration names it; a folder that is gone is named with the way out."""
    folder = write_checkpoint(megatron_weights)
    run = json.loads((folder / "run.json").read_text())
    assert_refused(run_export(folder, tokenizer=None), tmp_path, "no tokenizer.json in nowhere", "--tokenizer")
    run["config"]["data"]["tokenizer"] = str(tokenizer_folder)
    (folder / "run.json").write_text(json.dumps(run))
    assert run_export(folder, tokenizer=None)[0] == 0


def test_an_existing_destination_stays(write_checkpoint, megatron_weights, run_export, tmp_path: Path) -> None:
    folder = write_checkpoint(megatron_weights)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious").write_text("kept")
    code, _, errors = run_export(folder)
    assert code == 2
    assert "exists and is not overwritten" in errors
    assert (tmp_path / "model" / "precious").read_text() == "kept"
