"""Multiple choice with a boxed letter: GPQA-Diamond, SuperGPQA, MMLU, -Pro, -Redux, C-Eval, CMMLU, AGIEval.

Asked zero-shot and answered with reasoning; only a letter in `\\boxed{}` counts (letters.py). Questions with several
right answers need exactly their letters. The forms of the Hugging Face data
sets are read: options as a list or as fields A, B, C, D; the answer as a letter, an index, or (GPQA) a text among wrong
ones, which are then shuffled by the problem's id.
"""

import ast
import hashlib
import random
import re
import string
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from megatron_mimo.eval.letters import boxed_letters
from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, Graders, NoAnswer, first, user
from megatron_mimo.eval.records import Source
from megatron_mimo.eval.tasks.mathematics import MathTask
from megatron_mimo.reward.final_answer import final_part

ENGLISH = "Reason step by step, and put the letter of the right choice in \\boxed{}, as in \\boxed{A}."
CHINESE = "请逐步推理，并将正确选项的字母放在 \\boxed{} 中，例如 \\boxed{A}。"
SEVERAL = "More than one choice may be right: put the letters of all right ones in \\boxed{}, as in \\boxed{AC}."
OPTION_MARK = re.compile(r"\(?[A-J][).:、]\s*")
MARK_IN_TEXT = re.compile(r"(?:^|(?<=\s)|(?<=[.;,。；，]))\(?([A-J])[).、]\s*")


@dataclass
class Choices(EvalTask):
    """One data set of questions with options."""

    name: str
    files: tuple[str, ...]
    instruction: str = ENGLISH
    split: str = "test"
    version = "2"

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem | None:
        # MMLU-Redux marks questions that are themselves wrong.
        if record.get("error_type", "ok") != "ok":
            return None
        question = str(first(record, "question", "Question", "query")).strip()
        options, letters = read_options(record, question)
        if not letters:
            raise NoAnswer("it has no right answer")
        if not set(letters) <= set(string.ascii_uppercase[: len(options)]):
            raise ValueError(f"its answer {letters!r} is none of its {len(options)} options")
        passage = f"{record['passage']}\n\n" if record.get("passage") else ""
        lines = [f"{mark}. {option}" for mark, option in zip(string.ascii_uppercase, options, strict=False)]
        subject = next((str(record[key]) for key in SUBJECTS if record.get(key)), "")
        return EvalProblem(
            id=identity(record, subject, question, options, number),
            messages=user("\n".join([passage + question, *lines, "", self.instruction])),
            question="\n".join([passage + question, *lines]),
            reference=letters,
            options=tuple(options),
            shown="; ".join(f"{letter}. {options[string.ascii_uppercase.index(letter)]}" for letter in letters),
            golden=f"\\boxed{{{letters}}}",
            group=subject,
        )

    def load(self, *files: Path | Source) -> list[EvalProblem]:
        """As every task; where a subject has questions with several right answers, all of its questions say so."""
        problems = super().load(*files)
        several = {problem.group for problem in problems if problem.options and len(problem.reference) > 1}
        return [self._for_several(problem) if problem.group in several else problem for problem in problems]

    def _for_several(self, problem: EvalProblem) -> EvalProblem:
        text = problem.messages[0]["content"].removesuffix(self.instruction)
        return replace(problem, messages=user(f"{text}{self.instruction} {SEVERAL}"))

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        """Right where exactly the right letters are boxed; several letters answer no question with one of them."""
        letters, boxed = boxed_letters(final_part(response), problem.options)
        if boxed is None:
            return Grade(0.0, None, "no boxed answer")
        if letters is None or len(letters) > 1 == len(problem.reference):
            return Grade(0.0, None, f"no {'single ' if letters else ''}letter in {boxed[:80]}")
        right = letters == problem.reference
        return Grade(float(right), letters, "right" if right else "wrong")


@dataclass
class AgiEval(Choices):
    """AGIEval: questions with options, and two subjects (mathematics) whose answers are expressions."""

    needs = frozenset({"math"})

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem | None:
        if record.get("options") is None and record.get("choices") is None and record.get("answer") is not None:
            return CLOZE.problem({**record, "id": f"{record.get('subject', '')}/{number}"}, number)
        return super().problem(record, number)

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        of = super() if problem.options else CLOZE
        return await of.grade(problem, response, graders)


CLOZE = MathTask("agieval_cloze", ())


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
        options = options["text"] if "text" in options else [options[key] for key in sorted(options)]
    if isinstance(options, str):
        options = listed(options) or split_options(options)
    if options is None:
        options = [record[letter] for letter in "ABCDEFGHIJ" if record.get(letter) is not None]
    if not options:
        raise KeyError("choices, options or A, B, C, D")
    stripped = [str(option).strip() for option in options]
    if all(OPTION_MARK.match(option) and option.lstrip("(")[0] == mark for option, mark in zip(
        stripped, string.ascii_uppercase, strict=False
    )):  # fmt: skip
        stripped = [OPTION_MARK.sub("", option, count=1) for option in stripped]
    label = record.get("label")
    return stripped, answer_letters(label if label is not None else first(record, *ANSWERS))


ANSWERS = ("answer_letter", "answer", "Answer", "gold")


def listed(text: str) -> list[str] | None:
    """The items of a list that is written as text, as tables keep it; None for anything else."""
    try:
        found = ast.literal_eval(text) if text.startswith("[") else None
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return [str(one) for one in found] if isinstance(found, list) else None


def split_options(text: str) -> list[str]:
    """`A) x B) y` as its options. Raises ValueError for a text that does not mark them A, B, C ... in order."""
    starts = []
    for match in MARK_IN_TEXT.finditer(text):
        if match[1] == string.ascii_uppercase[len(starts)]:
            starts.append(match)
    if len(starts) < 2 or starts[0].start() > 0:
        raise ValueError(f"its options are one text without marks A) B) C): {text[:80]!r}")
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return [text[match.end() : end].strip() for match, end in zip(starts, ends, strict=True)]


def answer_letters(answer: Any) -> str:
    """Letters in order, from a letter, an index, several letters, or a list of these; "" for an empty list."""
    if isinstance(answer, list):
        return "".join(sorted({answer_letters(one) for one in answer}))
    if isinstance(answer, int) or str(answer).isdecimal():
        return string.ascii_uppercase[int(answer)]
    text = "".join(sign for sign in str(answer).upper() if sign.isalnum())
    return "".join(sorted(set(text)))


def shuffled(record: dict[str, Any], question: str) -> tuple[list[str], str]:
    """GPQA's right answer among its three wrong ones, in an order that the question decides."""
    right = str(record["Correct Answer"]).strip()
    options = [right, *(str(record[f"Incorrect Answer {i}"]).strip() for i in (1, 2, 3))]
    order = list(range(4))
    random.Random(hashlib.sha256(question.encode()).digest()).shuffle(order)
    return [options[place] for place in order], string.ascii_uppercase[order.index(0)]


def choices() -> list[EvalTask]:
    return [
        Choices("gpqa_diamond", ("gpqa_diamond", "GPQA-Diamond")),
        Choices("supergpqa", ("supergpqa", "SuperGPQA-all", "SuperGPQA")),
        Choices("mmlu", ("mmlu", "mmlu_test")),
        Choices("sat_math", ("sat_math",)),
        Choices("mmlu_pro", ("mmlu_pro", "MMLU-Pro", "mmlu_pro_test")),
        Choices("mmlu_redux", ("mmlu_redux", "MMLU-Redux")),
        Choices("ceval", ("ceval_val", "ceval", "C-Eval"), CHINESE, split="val"),
        Choices("cmmlu", ("cmmlu", "CMMLU"), CHINESE),
        AgiEval("agieval", ("agieval", "AGIEval")),
    ]
