"""Rows whose choices are compared by log-likelihood."""

import ast
import json
import re
import string
from collections.abc import Callable
from typing import Any

from megatron_mimo.eval.few_shot.form import Form, Item, Record
from megatron_mimo.eval.protocol import NoAnswer, first
from megatron_mimo.eval.tasks.choices import SUBJECTS, read_options

HARNESS, OURS = "lm-evaluation-harness", "ours"
LETTERS = string.ascii_uppercase


Read = Callable[[Record], Item | None]


def lettered(cue: str, question_first: str = "", mark: str = "{}. ", head: str = "\n") -> Read:
    """Readers of questions with lettered options, answered by the letter."""

    def read(record: Record) -> Item | None:
        if record.get("error_type", "ok") != "ok":
            return None
        question = str(first(record, "question", "Question", "query")).strip()
        options, letters = read_options(record, question)
        options = as_they_stand(record, options)
        if not letters:
            raise NoAnswer("it has no right answer")
        passage = f"{record['passage']}\n\n" if record.get("passage") else ""
        lines = [mark.format(letter) + option for letter, option in zip(LETTERS, options, strict=False)]
        names = [
            mark.partition("{}")[0] + one + mark.partition("{}")[2].rstrip(". ") for one in LETTERS[: len(options)]
        ]
        gold = tuple(LETTERS.index(letter) for letter in letters)
        return Item(
            question=f"{passage}{question_first}{question}{head}" + "\n".join([*lines, cue]),
            answer=names[gold[0]],
            choices=tuple(names),
            gold=gold,
            group=subject(record),
        )

    return read


def as_they_stand(record: Record, options: list[str]) -> list[str]:
    """Options with the spaces around them, where the record has them without marks: the harness keeps them."""
    given = record.get("choices", record.get("options"))
    given = given if isinstance(given, list) else [record[one] for one in LETTERS[:10] if record.get(one) is not None]
    return list(given) if [str(one).strip() for one in given] == options else options


def subject(record: Record) -> str:
    return next((str(record[key]) for key in SUBJECTS if record.get(key)), "")


def about(record: Record) -> str:
    """MMLU's first line, with the subject's name as words."""
    name = subject(record).replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {name}.\n\n" if name else ""


def chinese(opening: str) -> Callable[[Record], str]:
    def describe(record: Record) -> str:
        name = subject(record).replace("_", " ")
        return f"{opening}关于{name}的单项选择题，请直接给出正确答案的选项。\n\n"

    return describe


def arc(record: Record) -> Item:
    """The hub's form, and that of the original files, where the question holds the choices."""
    question, choices = record["question"], record.get("choices")
    if isinstance(question, dict):
        choices = {key: [choice[key] for choice in question["choices"]] for key in ("text", "label")}
        question = question["stem"]
    assert isinstance(choices, dict)
    gold = list(choices["label"]).index(record["answerKey"])
    texts = [str(text) for text in choices["text"]]
    return Item(question=f"Question: {question}\nAnswer:", answer=texts[gold], choices=tuple(texts), gold=(gold,))


def cleaned(text: str) -> str:
    """HellaSwag without the marks of WikiHow."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def hellaswag(record: Record) -> Item:
    context = f"{record['activity_label']}: {record['ctx_a']} {record['ctx_b'].capitalize()}"
    endings = record["endings"] if isinstance(record["endings"], list) else json.loads(record["endings"])
    if str(record["label"]) == "":
        raise NoAnswer("its label is kept secret")
    gold, choices = int(record["label"]), tuple(map(cleaned, endings))
    return Item(question=cleaned(context), answer=choices[gold], choices=choices, gold=(gold,))


def piqa(record: Record) -> Item:
    choices, gold = (str(record["sol1"]), str(record["sol2"])), int(record["label"])
    return Item(question=f"Question: {record['goal']}\nAnswer:", answer=choices[gold], choices=choices, gold=(gold,))


def winogrande(record: Record) -> Item:
    """The sentence up to the gap with either option; its rest is what is scored."""
    before, _, after = str(record["sentence"]).partition("_")
    contexts = tuple(before + str(record[option]) for option in ("option1", "option2"))
    rest, gold = after.strip(), int(record["answer"]) - 1
    return Item(question=before, answer=rest, contexts=contexts, choices=(rest,), gold=(gold,))


def race(record: Record) -> Item:
    """The article with its other questions answered, where they stand in the record; then the last one."""
    problems: Any = record.get("problems")
    problems = ast.literal_eval(problems) if isinstance(problems, str) else problems
    problems = problems or [{key: record[key] for key in ("question", "options", "answer")}]
    text = f"Article: {record['article']}\n\n"
    for problem in problems[:-1]:
        right, asked = problem["options"][LETTERS.index(problem["answer"])], problem["question"]
        text += f"{asked[:-5]}{right}\n" if asked.endswith("  _  .") else f"Question: {asked}\nAnswer: {right}\n"
    last = problems[-1]
    gold, options = LETTERS.index(last["answer"]), tuple(last["options"][:4])
    return Item(question=text + last["question"], answer=options[gold], choices=options, gold=(gold,))


gpqa = lettered("Answer:", "Question: ", "({}) ", "\nChoices:\n")
letters = lettered("Answer:")


def questions() -> list[Form]:
    """MMLU's kin, ARC, HellaSwag, PIQA, WinoGrande, RACE, C-Eval, CMMLU, AGIEval."""
    of_dev: dict[str, Any] = {"shots": "first", "shots_split": "dev"}
    return [
        Form(
            name="base_mmlu",
            row="MMLU",
            files=("mmlu",),
            read=letters,
            num_shots=5,
            description=about,
            source=HARNESS,
            **of_dev,
        ),
        Form(
            name="base_mmlu_redux",
            row="MMLU-Redux",
            files=("mmlu_redux", "MMLU-Redux"),
            read=letters,
            num_shots=5,
            description=about,
            shots_files=("mmlu",),
            source=OURS,
            **of_dev,
        ),
        Form(
            name="base_gpqa_diamond",
            row="GPQA-Diamond",
            files=("gpqa_diamond", "GPQA-Diamond"),
            read=gpqa,
            num_shots=5,
            shots="others",
            source=OURS,
        ),
        Form(
            name="base_supergpqa",
            row="SuperGPQA",
            files=("supergpqa", "SuperGPQA-all", "SuperGPQA"),
            read=letters,
            num_shots=5,
            shots="others",
            source=OURS,
        ),
        Form(
            name="base_arc_easy",
            row="ARC-Easy",
            files=("arc_easy", "ARC-Easy"),
            read=arc,
            num_shots=25,
            is_normalised=True,
            source=HARNESS,
        ),
        Form(
            name="base_arc_challenge",
            row="ARC-Challenge",
            files=("arc_challenge", "ARC-Challenge"),
            read=arc,
            num_shots=25,
            is_normalised=True,
            source=HARNESS,
        ),
        Form(
            name="base_hellaswag",
            row="HellaSwag",
            files=("hellaswag",),
            read=hellaswag,
            num_shots=10,
            split="val",
            is_normalised=True,
            source=HARNESS,
        ),
        Form(
            name="base_piqa",
            row="PIQA",
            files=("piqa",),
            read=piqa,
            num_shots=0,
            split="val",
            is_normalised=True,
            source=HARNESS,
        ),
        Form(
            name="base_winogrande",
            row="WinoGrande",
            files=("winogrande",),
            read=winogrande,
            num_shots=5,
            split="val",
            source=HARNESS,
        ),
        Form(
            name="base_race_high",
            row="RACE-High",
            files=("race_high", "race"),
            read=race,
            num_shots=5,
            shots="others",
            source=OURS,
        ),
        Form(
            name="base_agieval",
            row="AGIEval",
            files=("agieval", "AGIEval"),
            read=agieval,
            num_shots=0,
            shots="none",
            source=OURS,
        ),
        Form(
            name="base_ceval",
            row="C-Eval",
            files=("ceval", "C-Eval"),
            read=lettered("答案："),
            num_shots=5,
            split="val",
            description=chinese("以下是中国"),
            source=OURS,
            **of_dev,
        ),
        Form(
            name="base_cmmlu",
            row="CMMLU",
            files=("cmmlu", "CMMLU"),
            read=lettered("答案："),
            num_shots=5,
            description=chinese("以下是"),
            source=OURS,
            **of_dev,
        ),
    ]


def agieval(record: Record) -> Item | None:
    """Questions with one right answer; those with several, and without options, are not asked by log-likelihood."""
    if record.get("options") is None and record.get("choices") is None:
        raise NoAnswer("it has no options to compare")
    item = letters(record)
    if item is not None and len(item.gold) > 1:
        raise NoAnswer("it has several right answers")
    return item
