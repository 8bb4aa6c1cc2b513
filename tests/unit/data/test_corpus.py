"""The embedded corpus: every generated answer is right, and nothing held out is ever trained on."""

import re

import pytest

from megatron_mimo.data.document import Document, cut_paragraphs, deduplicate, split_by_hash
from megatron_mimo.data.nano.corpus import EMBEDDED_SOURCES, embedded_documents
from megatron_mimo.data.nano.corpus_arithmetic import ArithmeticProblem, problems
from megatron_mimo.data.nano.corpus_synthetic import synthetic_documents
from support.arithmetic import check_steps


def test_format_of_a_product_is_the_documented_one() -> None:
    partial = ["47*8=? 47*3=?", "7*8=56 7*3=21", "4*8=32 4*3=12", "32+5=37 12+2=14", "376 141"]
    problem = ArithmeticProblem(47, "*", 38)
    assert problem.prompt == "Question: 47*38=?\n"
    steps = [*partial, "376+1410=?", "7+1+0=08 86", "3+4+0=07 786", "0+1+0=01 1786"]
    assert problem.solution == "\n".join([*steps, "Answer: \\boxed{1786}"])


def test_every_step_of_every_problem_is_true_and_of_fixed_width() -> None:
    widths: dict[str, set[tuple[int, ...]]] = {"+": set(), "-": set(), "*": set()}
    for problem in problems():
        *steps, answer = problem.solution.split("\n")
        check_steps(steps)
        widths[problem.operator].add(tuple(map(len, steps)))
        assert answer == f"Answer: \\boxed{{{eval(f'{problem.a}{problem.operator}{problem.b}')}}}"
    assert {operator: len(found) for operator, found in widths.items()} == {"+": 1, "-": 1, "*": 1}


def test_answer_can_be_read_off_the_steps() -> None:
    """The last column whole and the ones of the column before it; of a product the last result so far."""
    for problem in problems():
        steps = problem.solution.split("\n")[:-1]
        if problem.operator == "*":
            assert int(steps[-1].split(" ")[1]) == problem.answer
        else:
            before, last = (step.split("=")[1] for step in steps[-2:])
            assert int(last + before[-1]) == problem.answer


def test_held_out_problems_are_in_no_training_document() -> None:
    held_out = [problem for problem in problems() if problem.held_out]
    assert 300 < len(held_out) < 1000
    assert {problem.operator for problem in held_out} == set("+-*")
    training = "\n".join(
        document.text
        for source in ("arithmetic", "synthetic")
        for document in embedded_documents(source)
        if document.split == "train"
    )
    shown = set(re.findall(r"(?<!\d)\d\d[-+*]\d\d(?!\d)", training))
    swapped = {f"{p.b}{p.operator}{p.a}" for p in held_out if p.operator != "-"}
    assert len(shown) > 15_000
    assert not shown & ({f"{p.a}{p.operator}{p.b}" for p in held_out} | swapped)


def test_programs_pass_their_own_tests() -> None:
    programs = [document.text for document in synthetic_documents() if document.id.startswith("program/")]
    assert len(programs) > 500
    for program in programs:
        task, _, code = program.partition("\n")
        assert task.startswith("Task: ")
        assert code.count("assert ") >= 2
        exec(code, {})


@pytest.mark.parametrize("source", ["text", "code", "arithmetic", "synthetic", "graded", "recall"])
def test_source_is_repeatable_unique_and_split(source: str) -> None:
    documents = embedded_documents(source)
    assert documents == embedded_documents.__wrapped__(source)
    assert len({document.text for document in documents}) == len(documents)
    assert max(len(document.text.encode()) for document in documents) < 64_000
    valid = [document for document in documents if document.split == "valid"]
    assert 10 <= len(valid) < 0.15 * len(documents)


def test_every_source_has_a_domain() -> None:
    assert {name: domain for name, (domain, _) in EMBEDDED_SOURCES.items()} == {
        "text": "web", "code": "code", "arithmetic": "math", "synthetic": "synthetic", "graded": "math",
        "recall": "synthetic",
    }  # fmt: skip


def test_split_share_and_stability() -> None:
    texts = [(str(i), f"text {i}") for i in range(20_000)]
    valid = [document.id for document in split_by_hash(texts, 0.02) if document.split == "valid"]
    assert 300 < len(valid) < 500
    again = [document.id for document in split_by_hash(texts[::-1], 0.02) if document.split == "valid"]
    assert sorted(valid) == sorted(again)


def test_deduplicate_keeps_the_first_and_drops_empty_texts() -> None:
    texts = [Document(str(i), text, "train") for i, text in enumerate(["a", " \n", "b", "a"])]
    assert [document.id for document in deduplicate(texts)] == ["0", "2"]


def test_cut_paragraphs_loses_nothing_and_keeps_the_limit() -> None:
    paragraphs = [f"{i}" * (i % 7 + 1) for i in range(50)]
    parts = list(cut_paragraphs(paragraphs, limit_characters=20))
    assert "\n\n".join(parts).split("\n\n") == paragraphs
    assert max(len(part) for part in parts) <= 20
