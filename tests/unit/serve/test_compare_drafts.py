"""Forms of drafts in one table, with a stand-in for vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer
from megatron_mimo.serve import compare_drafts
from megatron_mimo.serve.vllm_engine import GroupGeneration, PromptGroup

SHAPE: dict[str, Any] = {"num_hidden_layers": 4, "hidden_size": 8, "vocab_size": 320, "num_nextn_predict_layers": 3}


def model(folder: Path, name: str, **config: Any) -> str:
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(SHAPE | config))
    save_tokenizer(train_tokenizer(["some words"], vocab_size=270), folder / name)
    return f"{name}={folder / name}"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"sum {number}"}) + "\n" for number in range(9)))
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, list[PromptGroup]]]:
    """Each group takes a second for 10 tokens of each prompt; a model named `wrong` says something else."""
    calls: list[tuple[str, int, list[PromptGroup]]] = []

    def generate(folder: Path, groups: list[PromptGroup], num_drafts: int) -> dict[str, GroupGeneration]:
        calls.append((folder.name, num_drafts, groups))
        answers = {}
        for group in groups:
            count = len(group.prompts)
            said = "otherwise" if folder.name == "wrong" else "answer"
            accepted = [4 * count, 2 * count, count][:num_drafts]
            speed = 2.0 if num_drafts else 1.0
            answers[group.name] = GroupGeneration(
                [said] * count,
                10 * count,
                count / speed,
                5 * count,
                sum(accepted),
                5 * count if num_drafts else 0,
                accepted,
            )
        return answers

    monkeypatch.setattr(compare_drafts, "generate", generate)
    return calls


def test_the_table_has_every_form_beside_decoding_without_drafts(
    tmp_path: Path, prompts: Path, engine: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    models = [
        model(tmp_path, "copies"),
        model(tmp_path, "recursive", num_nextn_predict_layers=1, mtp_recursive_steps=3),
    ]
    output = tmp_path / "out.json"
    arguments = [*models, "--prompts", str(prompts), "--num-prompts", "6", "--batch", "4", "--rounds", "2"]
    assert compare_drafts.main([*arguments, "--output", str(output)]) == 0
    assert [(name, drafts) for name, drafts, _ in engine] == [("copies", 0), ("copies", 3), ("recursive", 3)] * 2
    groups = engine[0][2]
    assert [len(group.prompts) for group in groups] == [4, 4, 2] and groups[0].name == "warm-up"
    assert groups[1].prompts[0] == "<|im_start|>user\nsum 0<|im_end|>\n<|im_start|>assistant\n"
    plain, copies, recursive = json.loads(output.read_text())
    assert plain["tokens_per_step"] == 1 and plain["accepted"] == [] and plain["tokens_per_second"] == 10
    assert copies["accepted"] == [0.8, 0.4, 0.2] and copies["tokens_per_step"] == pytest.approx(2.4)
    assert recursive["tokens_per_second"] == 20 and recursive["texts"] == 6
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "2.00" in lines[2] and "80.0%" in lines[2] and "differ" not in lines[2]


def test_texts_that_differ_are_counted(
    tmp_path: Path, prompts: Path, engine: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    models = [model(tmp_path, "right"), model(tmp_path, "wrong")]
    assert compare_drafts.main([*models, "--prompts", str(prompts)]) == 1
    assert "9 of 9 texts differ" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(tmp_path: Path, prompts: Path, engine: list[Any]) -> None:
    one = model(tmp_path, "one")
    other = model(tmp_path, "other", hidden_size=16)
    for words in (["nothing"], [one, one], ["=x"], [f"no drafts={tmp_path}"]):
        with pytest.raises(UserError, match="name each model once"):
            compare_drafts.named_models(words)
    for arguments in ([one, other], [one, "--num-speculative-tokens", "4"], [f"x={tmp_path / 'none'}"]):
        assert compare_drafts.main([*arguments, "--prompts", str(prompts)]) == 2
    for content in ("", "{}\n", "no JSON\n"):
        prompts.write_text(content)
        assert compare_drafts.main([one, "--prompts", str(prompts)]) == 2
    assert not engine, "nothing was started"
