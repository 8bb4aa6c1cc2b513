"""Mathematics: GSM8K, MATH and MATH-500, AIME, AMC. Math-Verify on the last boxed answer; nothing else counts.

`questions` are your own file, asked word for word.
"""

from dataclasses import dataclass
from typing import Any

from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, Graders, NoAnswer, first, user
from megatron_mimo.reward.boxed import last_boxed
from megatron_mimo.reward.final_answer import final_part

INSTRUCTION = "Reason step by step, and put the final answer in \\boxed{}."


@dataclass
class MathTask(EvalTask):
    """Problems with a field `problem` or `question` and the answer in `answer`, or boxed in `solution`."""

    name: str
    files: tuple[str, ...]
    instruction: str = f"\n\n{INSTRUCTION}"
    """Put behind every question."""
    needs = frozenset({"math"})

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem | None:
        question = str(first(record, "problem", "question", "Problem", "prompt"))
        answer = self.answer(record)
        if not answer:
            raise NoAnswer("its answer is empty")
        return EvalProblem(
            id=str(record.get("unique_id", record.get("id", record.get("ID", number)))),
            messages=user(question + self.instruction),
            question=question,
            reference=answer,
            shown=answer,
            golden=f"The answer is $\\boxed{{{answer}}}$.",
            group=str(record.get("subject", record.get("type", ""))),
        )

    def answer(self, record: dict[str, Any]) -> str:
        """The final answer. Raises ValueError for a solution without a boxed one."""
        if record.get("answer") is None and record.get("Answer") is None:
            boxed = last_boxed(first(record, "solution"))
            if boxed is None:
                raise ValueError("its solution has no \\boxed answer")
            return boxed.partition("{")[2][:-1]
        answer = first(record, "answer", "Answer")
        # AMC's answers stand in its file as floats.
        text = str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer).strip()
        is_formula = len(text) > 2 and text.startswith("$") and text.endswith("$") and text.count("$") == 2
        return text[1:-1] if is_formula else text

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        boxed = last_boxed(final_part(response))
        if boxed is None:
            return Grade(0.0, None, "no boxed answer")
        right = await graders.same_mathematics(boxed, problem.reference)
        return Grade(float(right), boxed, "right" if right else "wrong")


@dataclass
class Gsm8k(MathTask):
    """GSM8K's answers stand behind `####` at the end of the worked solution."""

    name: str = "gsm8k"
    files: tuple[str, ...] = ("gsm8k_test", "gsm8k")

    def answer(self, record: dict[str, Any]) -> str:
        _, mark, answer = first(record, "answer").rpartition("####")
        if not mark:
            raise ValueError("its answer has no ####")
        return answer.strip().replace(",", "")


def mathematics() -> list[EvalTask]:
    return [
        Gsm8k(),
        MathTask("math", ("math_test", "math")),
        MathTask("math_500", ("math_500", "math500", "MATH-500")),
        MathTask("aime24", ("aime24", "aime_2024", "aime2024")),
        MathTask("aime25", ("aime25", "aime_2025", "aime2025")),
        MathTask("amc23", ("amc23", "amc")),
        MathTask("minerva_math", ("minerva_math",)),
        MathTask("gaokao2023en", ("gaokao2023en", "gaokao2023_en")),
        MathTask("questions", ("questions",), instruction=""),
    ]
