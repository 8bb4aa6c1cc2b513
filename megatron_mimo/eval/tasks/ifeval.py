"""IFEval: does a response follow instructions that rules can check? The rules are lm-evaluation-harness'.

The score is strict and by prompt, as in the report: all instructions of a prompt are followed. Files are those of the
benchmark (`input_data.jsonl`) or of the hub. Two rules count sentences and words by nltk's data `punkt_tab`; where it
cannot be had, they are counted by simpler rules, and `notes` say so.
"""

import importlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, Graders, user
from megatron_mimo.eval.records import MissingLibrary, Source
from megatron_mimo.reward.final_answer import final_part

RULES = "lm_eval.tasks.ifeval"
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])|\n\s*\n")


@dataclass
class IfEval(EvalTask):
    """541 prompts, each with one to three instructions."""

    name: str = "ifeval"
    files: tuple[str, ...] = ("ifeval", "ifeval_input", "input_data", "IFEval")

    def load(self, *files: Path | Source) -> list[EvalProblem]:
        """As every task. Raises MissingLibrary where the harness is not installed."""
        if find_spec("lm_eval") is None:
            raise MissingLibrary("task ifeval needs lm-evaluation-harness: pip install 'lm-eval[ifeval]'")
        if count_without_data():
            self.notes.append("nltk's punkt_tab is not there: sentences and words are counted by simpler rules")
        return super().load(*files)

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem:
        names, settings = record["instruction_id_list"], record["kwargs"]
        return EvalProblem(
            id=str(record.get("key", number)),
            messages=user(record["prompt"]),
            reference={"key": number, "prompt": record["prompt"], "instruction_id_list": names, "kwargs": settings},
            shown="; ".join(names),
        )

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        answer = final_part(response).strip()
        if not answer:
            return Grade(0.0, None, "no answer")
        found = importlib.import_module(f"{RULES}.utils").process_results(problem.reference, [answer])
        followed = found["inst_level_strict_acc"]
        details = {
            "instructions": sum(followed) / len(followed),
            "loose": float(found["prompt_level_loose_acc"]),
        }
        verdict = f"{sum(followed)} of {len(followed)} instructions"
        return Grade(float(found["prompt_level_strict_acc"]), answer, verdict, details)


def count_without_data() -> bool:
    """Whether nltk's data is missing; the rules then count without it."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
        return False
    except LookupError:
        helpers: Any = importlib.import_module(f"{RULES}.instructions_util")
    try:
        nltk.data.find("tokenizers/punkt_tab")  # importing the rules has fetched it
        return False
    except LookupError:
        helpers.count_sentences = lambda text: len([part for part in SENTENCE_END.split(text) if part and part.strip()])
        helpers.nltk.word_tokenize = nltk.tokenize.NLTKWordTokenizer().tokenize
        return True
