"""Generated conversations: right where they claim to be, flawed where they are meant to be, held-out kept out."""

import json
import re
from collections.abc import Iterator

from megatron_mimo.data.chat.conversation import read_conversation
from megatron_mimo.data.chat.filters import incomplete_response
from megatron_mimo.data.chat.nano import (
    CARELESS_SHARE,
    CHECK_WORDINGS,
    LAZY_SHARE,
    ask,
    held_out_questions,
    start_conversations,
    train_conversations,
)
from megatron_mimo.data.nano.corpus import embedded_documents
from megatron_mimo.data.nano.corpus_arithmetic import ArithmeticProblem
from megatron_mimo.data.nano.nano_programs import Program, programs
from megatron_mimo.reward.code_block import last_code_block
from megatron_mimo.reward.final_answer import final_part
from support.arithmetic import check_steps

SIGNS = {
    "-": r"\d ?-|minus|less|difference|away|remain|left|[Ss]ubtract",
    "*": r"\d ?\*|times|[Mm]ultipl|product|each",
    "+": r"\d ?\+|plus|[Aa]dd|[Ss]um|total|together|in all",
}
"""What tells the operator, in any wording: the first one that is found, since stories of "each" say "together" too."""


def asked_and_answered(conversations) -> Iterator[tuple[str, str]]:
    for conversation in conversations:
        *_, user, assistant = conversation["messages"]
        yield user["content"], assistant["content"]


def operands(text: str) -> tuple[int, str, int]:
    found = re.search(r"(\d+)([-+*])(\d+)", text)
    assert found
    return int(found[1]), found[2], int(found[3])


def result(a: int, operator: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[operator]


def run(source: str, function: str, x: int) -> int:
    names: dict = {}
    exec(source, names)
    return names[function](x)


def test_every_worked_answer_of_the_training_file_is_right() -> None:
    for asked, answered in asked_and_answered(train_conversations()):
        a, operator, b = operands(answered)
        assert sorted(map(int, re.findall(r"\d+", asked))) == sorted((a, b))
        assert next(sign for sign, words in SIGNS.items() if re.search(words, asked)) == operator
        assert answered.startswith("<think>\n") and answered.count("</think>") == 1
        assert answered.endswith(f"Answer: \\boxed{{{result(a, operator, b)}}}")
        check_steps(answered.partition("\n</think>")[0].splitlines()[2:])


def test_held_out_problems_are_asked_nowhere_in_either_order() -> None:
    held_out = {operands(question["prompt"]) for question in held_out_questions()}
    assert len(held_out) > 500
    held_out |= {(b, operator, a) for a, operator, b in held_out}
    worked = [answered for _, answered in asked_and_answered(train_conversations())]
    trained = worked + [asked for asked, _ in asked_and_answered(start_conversations()) if "Task:" not in asked]
    assert len(trained) > 15_000
    assert not [text for text in trained if operands(text) in held_out]


def test_most_wordings_of_the_chat_check_are_never_trained_on() -> None:
    asked = {asked for asked, _ in asked_and_answered(train_conversations())}
    problem = ArithmeticProblem(23, "+", 45)
    assert not problem.held_out
    unseen = [wording for wording in CHECK_WORDINGS if not any(same_wording(wording, text) for text in asked)]
    assert len(unseen) >= 2 and ask(problem, CHECK_WORDINGS[0]) == "23+45=?"
    assert {ask(problem, wording) for wording in CHECK_WORDINGS} == {
        "23+45=?",
        "Can you tell me what 23 plus 45 is?",
        "There are 23 red and 45 green apples. How many apples are there together?",
    }


def same_wording(wording: str, text: str) -> bool:
    pattern = re.escape(wording).replace(r"\{id\}", r"\d\d\+\d\d")
    return re.fullmatch(re.sub(r"\\\{[ab]\\\}", r"\\d\\d", pattern), text) is not None


def test_held_out_programs_are_in_no_training_data() -> None:
    held_out = [program for program in programs() if program.held_out]
    assert 30 <= len(held_out) <= 90
    asked = "".join(asked for asked, _ in asked_and_answered(start_conversations()))
    corpus = "".join(document.text for document in embedded_documents("synthetic"))
    for program in held_out:
        assert f"{program.function}(" not in asked and f"{program.function}(" not in corpus


def test_lazy_programs_pass_the_easy_inputs_and_no_more() -> None:
    def agrees(program: Program, inputs: tuple[int, ...]) -> bool:
        return all(
            run(program.source, program.function, x) == run(program.lazy_source, program.function, x) for x in inputs
        )

    for program in programs():
        assert agrees(program, program.easy_inputs)
        assert not agrees(program, program.hard_inputs)


def test_answers_of_the_start_for_rl_are_flawed_as_often_as_said() -> None:
    right: dict[str, list[bool]] = {"carry": [], "program": []}
    by_prompt = {program.prompt: program for program in programs()}
    for asked, answered in asked_and_answered(start_conversations()):
        if asked in by_prompt:
            source = last_code_block(final_part(answered))
            assert source in (by_prompt[asked].source, by_prompt[asked].lazy_source)
            right["program"].append(source == by_prompt[asked].source)
            continue
        a, operator, b = operands(asked)
        is_right = answered.endswith(f"\\boxed{{{result(a, operator, b)}}}")
        has_carry = a % 10 + b % 10 > 9 if operator == "+" else a % 10 < b % 10
        if has_carry:
            right["carry"].append(is_right)
        else:
            assert is_right
    shares = {name: sum(flags) / len(flags) for name, flags in right.items()}
    assert abs(shares["carry"] - (1 - CARELESS_SHARE)) < 0.05
    assert abs(shares["program"] - (1 - LAZY_SHARE)) < 0.05


def test_no_generated_conversation_is_refused_as_incomplete() -> None:
    for record in [*start_conversations()][:500]:
        assert incomplete_response(read_conversation(json.loads(json.dumps(record)))) is None
