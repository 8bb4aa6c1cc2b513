"""Multiple choice with a boxed letter: GPQA-Diamond, SuperGPQA, MMLU, -Pro, -Redux, C-Eval, CMMLU, AGIEval.

Asked zero-shot and answered with reasoning; only a letter in `\\boxed{}` counts. The forms of the Hugging Face data
sets are read: options as a list or as fields A, B, C, D; the answer as a letter, an index, or (GPQA) a text among wrong
ones, which are then shuffled by the problem's id.
"""

import hashlib
import random
import re
import string
from dataclasses import dataclass
from typing import Any

from megatron_mimo.eval.protocol import Grade, Graders, Problem, Task, first, user
from megatron_mimo.reward.final_answer import final_part
from megatron_mimo.reward.math_answer import last_boxed

ENGLISH = "Reason step by step, and put the letter of the right choice in \\boxed{}, as in \\boxed{A}."
CHINESE = "请逐步推理，并将正确选项的字母放在 \\boxed{} 中，例如 \\boxed{A}。"
LETTER = re.compile(
    r"(?:\\(?:text|textbf|mathrm|mathbf|rm|bf)\s*\{?)?\s*\(?([A-Z])\)?\s*(?:[.:：、)}].*)?\}*", re.DOTALL
)
OPTION_MARK = re.compile(r"\(?[A-J][).:、]\s*")


@dataclass
class Choices(Task):
    """One data set of questions with options."""

    name: str
    files: tuple[str, ...]
    instruction: str = ENGLISH

    def problem(self, record: dict[str, Any], number: int) -> Problem | None:
        # MMLU-Redux marks questions that are themselves wrong.
        if record.get("error_type", "ok") != "ok":
            return None
        question = str(first(record, "question", "Question", "query")).strip()
        options, letter = read_options(record, question)
        if letter not in string.ascii_uppercase[: len(options)]:
            raise ValueError(f"its answer {letter!r} is none of its {len(options)} options")
        passage = f"{record['passage']}\n\n" if record.get("passage") else ""
        lines = [f"{mark}. {option}" for mark, option in zip(string.ascii_uppercase, options, strict=False)]
        subject = next((str(record[key]) for key in SUBJECTS if record.get(key)), "")
        return Problem(
            id=identity(record, subject, question, options, number),
            messages=user("\n".join([passage + question, *lines, "", self.instruction])),
            reference=letter,
            shown=f"{letter}. {options[string.ascii_uppercase.index(letter)]}",
            golden=f"\\boxed{{{letter}}}",
            group=subject,
        )

    async def grade(self, problem: Problem, response: str, graders: Graders) -> Grade:
        boxed = last_boxed(final_part(response))
        if boxed is None:
            return Grade(0.0, None, "no boxed answer")
        letter = boxed_letter(boxed)
        right = letter == problem.reference
        return Grade(float(right), boxed, "right" if right else "wrong")


SUBJECTS = ("subject", "category", "discipline", "Subdomain", "High-level domain")


def identity(record: dict[str, Any], subject: str, question: str, options: list[str], number: int) -> str:
    """The data set's own id where it has one; else its place and a digest, since questions do repeat."""
    own = first({"number": number} | record, "Record ID", "uuid", "question_id", "number")
    digest = hashlib.sha256("\0".join([question, *options]).encode()).hexdigest()[:8]
    return f"{subject}/{own}" if own != number else f"{subject}/{number}-{digest}"


def read_options(record: dict[str, Any], question: str) -> tuple[list[str], str]:
    """Options and the letter of the right one. Raises KeyError for a form that is not known."""
    if "Correct Answer" in record:
        return shuffled(record, question)
    options = record.get("choices", record.get("options"))
    if isinstance(options, dict):
        options = options.get("text")
    if options is None:
        options = [record[letter] for letter in "ABCDEFGHIJ" if record.get(letter) is not None]
    if not options:
        raise KeyError("choices, options or A, B, C, D")
    stripped = [str(option).strip() for option in options]
    if all(OPTION_MARK.match(option) and option.lstrip("(")[0] == mark for option, mark in zip(
        stripped, string.ascii_uppercase, strict=False
    )):  # fmt: skip
        stripped = [OPTION_MARK.sub("", option, count=1) for option in stripped]
    return stripped, answer_letter(first(record, "answer_letter", "answer", "Answer", "label", "gold"))


def answer_letter(answer: Any) -> str:
    """A letter, from a letter, an index, or a list with one of them."""
    if isinstance(answer, list):
        if len(answer) != 1:
            raise ValueError(f"it has {len(answer)} right answers; exactly one is supported")
        answer = answer[0]
    if isinstance(answer, int) or str(answer).isdecimal():
        return string.ascii_uppercase[int(answer)]
    return str(answer).strip().strip("()").upper()


def shuffled(record: dict[str, Any], question: str) -> tuple[list[str], str]:
    """GPQA's right answer among its three wrong ones, in an order that the question decides."""
    right = str(record["Correct Answer"]).strip()
    options = [right, *(str(record[f"Incorrect Answer {i}"]).strip() for i in (1, 2, 3))]
    order = list(range(4))
    random.Random(hashlib.sha256(question.encode()).digest()).shuffle(order)
    return [options[place] for place in order], string.ascii_uppercase[order.index(0)]


def boxed_letter(boxed: str) -> str | None:
    """The letter in `\\boxed{...}`: `B`, `(B)`, `\\text{B}`, `B. the option's text`."""
    match = LETTER.fullmatch(boxed.partition("{")[2][:-1].strip().lstrip("$").rstrip("$ ").strip())
    return match[1] if match else None


def choices() -> list[Task]:
    return [
        Choices("gpqa_diamond", ("gpqa_diamond", "GPQA-Diamond")),
        Choices("supergpqa", ("supergpqa", "SuperGPQA-all", "SuperGPQA")),
        Choices("mmlu", ("mmlu", "mmlu_test")),
        Choices("mmlu_pro", ("mmlu_pro", "MMLU-Pro", "mmlu_pro_test")),
        Choices("mmlu_redux", ("mmlu_redux", "MMLU-Redux")),
        Choices("ceval", ("ceval", "C-Eval", "ceval_val"), CHINESE),
        Choices("cmmlu", ("cmmlu", "CMMLU"), CHINESE),
        Choices("agieval", ("agieval", "AGIEval")),
    ]
