"""How the figures of a pre-training run are put together."""

import json

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.eval import pretraining
from megatron_mimo.eval.arithmetic import HeldOutProblem
from megatron_mimo.serve.vllm_engine import GroupGeneration, PromptGroup

HELD_OUT = {"text": ["déjà", "vu"], "code": ["x = 1\n" * 50]}


def test_reads_the_sources_that_hold_documents(tmp_path) -> None:
    with pytest.raises(UserError, match="no held-out text"):
        pretraining.read_held_out(tmp_path)
    folder = tmp_path / "heldout" / "text"
    folder.mkdir(parents=True)
    for source, documents in HELD_OUT.items():
        (folder / f"{source}.jsonl").write_text("".join(json.dumps({"id": 0, "text": d}) + "\n" for d in documents))
    (folder / "empty.jsonl").write_text("")
    assert pretraining.read_held_out(tmp_path) == HELD_OUT


def test_whole_is_all_bits_over_all_bytes() -> None:
    assert pretraining.size_bytes(HELD_OUT) == {"all": 308, "text": 8, "code": 300}
    assert pretraining.per_byte({"text": 16.0, "code": 138.0}, HELD_OUT) == {"all": 0.5, "text": 2.0, "code": 0.46}


def test_baselines_rank_as_they_must_on_a_text_seen_in_training() -> None:
    table = pretraining.baseline_bits_per_byte(HELD_OUT, [b"x = 1\n" * 50, b"y = 2\n"])
    assert table["Kneser-Ney 5-gram"]["code"] < 0.1
    assert table["gzip -9"]["text"] == pytest.approx(
        8 * 28 / 8
    )  # 18 bytes of frame, 2 of block, the 8 bytes as they are
    for row in table.values():
        assert row["all"] == pytest.approx((8 * row["text"] + 300 * row["code"]) / 308)


def test_prompts_are_the_first_half_of_documents_and_the_problems() -> None:
    documents = {"arithmetic": [[1, 2, 3, 4]], "text": [[1, 2, 3, 4, 5], [1], list(range(2000))], "empty": [[7]]}
    groups = pretraining.prompt_groups([HeldOutProblem("1+1", "1+1=?\n", "2")], documents)
    assert [group.name for group in groups] == ["problems", "text documents"]
    assert groups[0].prompts == ["1+1=?\n"]
    assert groups[1].prompts == [[1, 2], list(range(256))]


def test_acceptance_is_pooled_over_tokens() -> None:
    generations = {"a": GroupGeneration(["x"], 30, 1.0, 20, 10), "b": GroupGeneration(["x"], 10, 3.0, 0, 0)}
    figures = pretraining.speculation(generations)
    assert figures["a"]["acceptance_rate"] == 0.5
    assert figures["b"]["acceptance_rate"] is None
    assert figures["all"]["acceptance_rate"] == 0.5
    assert figures["all"]["tokens_per_second"] == 10


def test_scores_by_operator_and_finds_leaked_problems() -> None:
    problems = [
        HeldOutProblem("12+34", "Question: 12+34=?\n", "46"),
        HeldOutProblem("12*34", "Question: 12*34=?\n", "408"),
    ]
    scores = pretraining.problem_scores(problems, ["\\boxed{46}", "\\boxed{40}"])
    assert {name: score["accuracy"] for name, score in scores.items()} == {"all": 0.5, "+": 1.0, "*": 0.0}
    assert pretraining.problems_seen(problems, [b"Question: 12+35=?\n", b"a Question: 12*34=? b"]) == 1


def test_samples_are_spread_over_a_group_and_show_token_prompts_as_text() -> None:
    groups = [
        PromptGroup("problems", [f"{n}+1=?" for n in range(7)], max_tokens=9),
        PromptGroup("text documents", [[65, 66]], max_tokens=9),
    ]
    generations = {
        "problems": GroupGeneration([f"is {n + 1}" for n in range(7)], 1, 1.0, 0, 0),
        "text documents": GroupGeneration(["C"], 1, 1.0, 0, 0),
    }
    found = pretraining.samples(groups, generations, lambda ids: "".join(map(chr, ids)))
    shown = [(sample["group"], sample["prompt"], sample["continuation"]) for sample in found]
    problems = [("problems", f"{n}+1=?", f"is {n + 1}") for n in (0, 3, 6)]
    assert shown == [*problems, ("text documents", "AB", "C")]
