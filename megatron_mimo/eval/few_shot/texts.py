"""Rows whose answer the model writes."""

import re
from collections.abc import Callable
from typing import Any

from megatron_mimo.eval.few_shot.form import Form, Item, Record
from megatron_mimo.eval.few_shot.questions import HARNESS, OURS
from megatron_mimo.eval.few_shot.written import Aliases, Drop, Exact
from megatron_mimo.eval.protocol import EvalTask, first
from megatron_mimo.eval.tasks.choices import Choices, read_options
from megatron_mimo.eval.tasks.cruxeval import CruxEval
from megatron_mimo.eval.tasks.livecodebench import LiveCodeBench, prompt
from megatron_mimo.eval.tasks.mathematics import Gsm8k, MathTask
from megatron_mimo.eval.tasks.programs import PLUS_LIMITS, HumanEval, Mbpp, fenced
from megatron_mimo.judge.request import Limits

NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
STEPS = "A: Let's think step by step."
NEXT_STATEMENTS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n```")
"""What a function's body is followed by."""
NEXT_PROBLEMS = ("\nQuestion:", "\nProblem:", "\nQ:")


def gsm8k(record: Record) -> Item:
    return Item(question=f"Question: {record['question']}\nAnswer:", answer=record["answer"])


def boxed_number(text: str, _: Record) -> str:
    """The number after `####`, else the last number."""
    numbers = NUMBER.findall(text.rpartition("####")[2] if "####" in text else text)
    number = numbers[0 if "####" in text else -1] if numbers else None
    return f"\\boxed{{{number.replace(',', '').replace('$', '')}}}" if number else ""


def bbh(record: Record) -> Item:
    answer, subject = str(record["target"]), str(record.get("subject", ""))
    golden = f"So the answer is {answer}."
    return Item(question=f"Q: {record['input']}\n{STEPS}\n", answer=answer, group=subject, golden=golden)


def after(cue: str) -> Callable[[str, Record], str]:
    """What follows a cue up to the line's end, without its full stop; nothing without the cue."""

    def cut(text: str, _: Record) -> str:
        found = re.search(rf"{cue}(.*)", text)
        return found[1].strip().removesuffix(".") if found else ""

    return cut


def drop(record: Record) -> Item:
    return Item(question=f"{record['passage']} {record['question']}", answer=Drop.shown_answer(record))


def trivia(record: Record) -> Item:
    """The record's first alias is the example's answer, as in lm-evaluation-harness' examples."""
    return Item(question=f"Question: {record['question']}?\nAnswer:", answer=Aliases.answers(record)[0])


def natural_questions(record: Record) -> Item:
    return Item(question=f"Q: {record['question']}?\nA:", answer=Aliases.answers(record)[0])


def first_line(text: str, _: Record) -> str:
    return text.strip().partition("\n")[0].strip()


def mmlu_pro(record: Record) -> Item:
    options, letter = read_options(record, "")
    lines = "".join(f"{mark}. {option}\n" for mark, option in zip("ABCDEFGHIJ", options, strict=False))
    worked = str(record.get("cot_content") or "").removeprefix(STEPS).strip()
    question = f"Question:\n{record['question']}\nOptions:\n{lines}Answer: Let's think step by step."
    return Item(question=question, answer=worked or f"The answer is ({letter}).", group=str(record.get("category", "")))


def about_pro(record: Record) -> str:
    return (
        f"The following are multiple choice questions (with answers) about {record.get('category', 'several fields')}. "
        'Think step by step and then finish with "the answer is (X)", where X is the letter of the right choice.\n\n'
    )


def boxed_letter(text: str, _: Record) -> str:
    found = re.search(r"answer is \(?([A-J])\)?", text)
    return f"\\boxed{{{found[1]}}}" if found else ""


def math(record: Record) -> Item:
    question = str(first(record, "problem", "question", "Problem"))
    return Item(question=f"Problem:\n{question}\n\nSolution:", answer=str(first(record, "solution", "answer")),
                group=str(record.get("type", record.get("subject", ""))))  # fmt: skip


def aime(record: Record) -> Item:
    question = str(first(record, "problem", "Problem", "question"))
    asked = f"Problem: {question}\n\nPut the final answer in \\boxed{{}}.\n\nSolution:"
    return Item(question=asked, answer=worked(record))


def own_question(record: Record) -> Item:
    return Item(question=str(first(record, "prompt", "problem", "question", "Problem")), answer=worked(record))


def worked(record: Record) -> str:
    """An example's answer: the solution that comes with it, else its boxed answer alone."""
    answer = first(record, "answer", "Answer", "solution")
    return str(record.get("solution") or record.get("Solution") or f"The answer is \\boxed{{{answer}}}.")


def human_eval(record: Record) -> Item:
    return Item(question=record["prompt"], answer=str(record.get("canonical_solution", "")))


def completed(text: str, record: Record) -> str:
    """The prompt with the body that the model has written."""
    return fenced(record["prompt"] + text)


def mbpp(record: Record) -> Item:
    text, tests = str(first(record, "text", "prompt")).strip(), "\n".join(record["test_list"])
    question = (
        f"You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:\n\n"
        f"{tests}\n[BEGIN]\n"
    )
    return Item(question=question, answer=f"{record.get('code', '')}\n[DONE]")


def crux(kind: str) -> Callable[[Record], Item]:
    def read(record: Record) -> Item:
        if kind == "output":
            return Item(question=f"{record['code']}\n\nassert f({record['input']}) ==", answer=record["output"])
        question = f"{record['code']}\n\n# A call that returns {record['output']}\nassert f("
        return Item(question=question, answer=f"{record['input']}) == {record['output']}")

    return read


def crux_call(text: str, _: Record) -> str:
    return fenced(f"assert f({text.strip()}")


def livecodebench(record: Record) -> Item:
    question = prompt(record["question_content"], record.get("starter_code") or "")
    return Item(question=f"{question}\n\nAnswer:\n```python\n", group=str(record.get("difficulty", "")))


def code(text: str, _: Record) -> str:
    return fenced(text)


def texts() -> list[Form]:
    """BBH, DROP, GSM8K, MATH, AIME, open questions, MMLU-Pro, programs; one's own questions, asked word for word."""
    usual = Limits()
    program: dict[str, Any] = {"shots": "others", "delimiter": "", "source": OURS}
    a_function: dict[str, Any] = program | {"stop": NEXT_STATEMENTS, "in_its_form": completed}
    tests: dict[str, Any] = program | {"stop": ("[DONE]",), "in_its_form": code}
    contest: dict[str, Any] = {"shots": "none", "num_shots": 0, "source": OURS}

    def human(name: str, files: tuple[str, ...], limits: Limits) -> Callable[[], EvalTask]:
        return lambda: HumanEval(name, files, limits)

    plus, mbpp_plus = ("HumanEvalPlus", "humanevalplus", "humaneval_plus"), ("MbppPlus", "mbppplus", "mbpp_plus")
    return [
        Form(
            name="base_bbh",
            row="BBH",
            files=("bbh/bbh", "bbh"),
            read=bbh,
            num_shots=3,
            shots="fixed",
            delimiter="",
            stop=("\n\n", "Q:"),
            max_tokens=1024,
            inner=lambda: Exact("base_bbh", ("target",)),
            in_its_form=after("(?:T|t)he answer is "),
            source=HARNESS,
        ),
        Form(
            name="base_drop",
            row="DROP",
            files=("drop",),
            read=drop,
            num_shots=3,
            split="val",
            delimiter="",
            stop=("\n",),
            max_tokens=64,
            inner=lambda: Drop("base_drop"),
            in_its_form=first_line,
            source=HARNESS,
        ),
        Form(
            name="base_gsm8k",
            row="GSM8K",
            files=("gsm8k",),
            read=gsm8k,
            num_shots=8,
            stop=("Question:", "\n\n"),
            inner=Gsm8k,
            in_its_form=boxed_number,
            source=HARNESS,
        ),
        Form(
            name="base_math",
            row="MATH",
            files=("math",),
            read=math,
            num_shots=4,
            shots="others",
            stop=("Problem:",),
            max_tokens=1024,
            inner=lambda: MathTask("math", ("math",)),
            source=OURS,
        ),
        Form(
            name="base_triviaqa",
            row="TriviaQA",
            files=("triviaqa", "trivia_qa"),
            read=trivia,
            num_shots=5,
            split="val",
            stop=("\n",),
            max_tokens=64,
            inner=lambda: Aliases("base_triviaqa"),
            in_its_form=first_line,
            source=OURS,
        ),
        Form(
            name="base_nq",
            row="NaturalQuestions",
            files=("nq_open", "nq"),
            read=natural_questions,
            num_shots=5,
            split="val",
            separator="\n",
            stop=("\n",),
            max_tokens=64,
            description=lambda _: "Answer these questions:\n\n",
            inner=lambda: Aliases("base_nq"),
            in_its_form=first_line,
            source=OURS,
        ),
        Form(
            name="base_mmlu_pro",
            row="MMLU-Pro",
            files=("mmlu_pro", "MMLU-Pro"),
            read=mmlu_pro,
            num_shots=5,
            shots="first",
            shots_split="val",
            description=about_pro,
            stop=("Question:",),
            max_tokens=2048,
            inner=lambda: Choices("mmlu_pro", ("mmlu_pro",)),
            in_its_form=boxed_letter,
            source=OURS,
        ),
        Form(
            name="base_aime24",
            row="AIME 2024",
            files=("aime24", "aime_2024", "aime2024"),
            read=aime,
            max_tokens=32768,
            stop=("\nProblem:",),
            inner=lambda: MathTask("aime24", ("aime24",)),
            num_shots=0,
            shots="others",
            source=OURS,
        ),
        Form(
            name="base_aime25",
            row="AIME 2025",
            files=("aime25", "aime_2025", "aime2025"),
            read=aime,
            max_tokens=32768,
            stop=("\nProblem:",),
            inner=lambda: MathTask("aime25", ("aime25",)),
            num_shots=0,
            shots="others",
            source=OURS,
        ),
        Form(
            name="base_questions",
            row="",
            files=("questions",),
            read=own_question,
            num_shots=0,
            shots="others",
            delimiter="",
            max_tokens=32768,
            stop=NEXT_PROBLEMS,
            inner=lambda: MathTask("questions", ("questions",), instruction=""),
            source=OURS,
        ),
        Form(
            name="base_livecodebench",
            row="LiveCodeBench v5",
            files=("livecodebench", "code_generation_lite"),
            read=livecodebench,
            stop=("\n```",),
            max_tokens=32768,
            in_its_form=code,
            inner=LiveCodeBench,
            **contest,
        ),
        Form(
            name="base_humaneval",
            row="HumanEval",
            files=("HumanEval", "humaneval"),
            read=human_eval,
            num_shots=1,
            inner=human("humaneval", (), usual),
            **a_function,
        ),
        Form(
            name="base_humaneval_plus",
            row="HumanEval+",
            files=plus,
            read=human_eval,
            num_shots=1,
            inner=human("humaneval_plus", (), PLUS_LIMITS),
            **a_function,
        ),
        Form(
            name="base_mbpp",
            row="MBPP",
            files=("mbpp",),
            read=mbpp,
            num_shots=3,
            inner=lambda: Mbpp("mbpp", (), usual),
            **tests,
        ),
        Form(
            name="base_mbpp_plus",
            row="MBPP+",
            files=mbpp_plus,
            read=mbpp,
            num_shots=3,
            inner=lambda: Mbpp("mbpp_plus", (), PLUS_LIMITS, first_id=0, last_id=10**9),
            **tests,
        ),
        Form(
            name="base_cruxeval_i",
            row="CRUXEval-I",
            files=("cruxeval",),
            read=crux("input"),
            num_shots=2,
            stop=("\n",),
            inner=lambda: CruxEval("cruxeval_i", "input"),
            in_its_form=crux_call,
            max_tokens=256,
            **program,
        ),
        Form(
            name="base_cruxeval_o",
            row="CRUXEval-O",
            files=("cruxeval",),
            read=crux("output"),
            num_shots=2,
            stop=("\n",),
            inner=lambda: CruxEval("cruxeval_o", "output"),
            in_its_form=code,
            max_tokens=256,
            shots="others",
            source=OURS,
        ),
    ]
