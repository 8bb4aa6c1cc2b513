"""Problems of a row for base models: prompts with examples, and grades for texts and log-likelihoods."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.eval import TaskConfig
from megatron_mimo.eval.few_shot.form import SHOTS_SEED, Form, Item, Record, render
from megatron_mimo.eval.protocol import EvalProblem, EvalTask, Grade, Graders, NoAnswer
from megatron_mimo.eval.records import Source, locate, read_records
from megatron_mimo.eval.tasks.livecodebench import LiveCodeBench


@dataclass
class FewShot(EvalTask):
    """One row; `num_shots`, `answer_prefix` and `stop` of the configuration go before the form's own."""

    form: Form
    config: TaskConfig
    name: str = ""
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        form = self.form
        self.name, self.files, self.split = form.name, form.files, form.split
        self.inner = form.inner() if form.inner else None
        if isinstance(self.inner, LiveCodeBench):
            own = self.config
            self.inner = LiveCodeBench(first_date=own.first_date, end_date=own.end_date, runner=own.runner)
        self.needs = self.inner.needs if self.inner else frozenset()
        self.version = f"1.{self.inner.version}" if self.inner else "1"
        self.num_shots = form.num_shots if self.config.num_shots is None else self.config.num_shots
        if self.num_shots and form.shots == "none":
            raise ConfigError("tasks.num_shots", self.num_shots, f"{form.name} has no examples: leave it out")

    def find(self, folder: str, path: str | None) -> list[Source]:
        """Its files; what the examples are taken from is looked for in the same places."""
        names = names_of(self.files, self.split)
        if isinstance(self.inner, LiveCodeBench):
            sources = self.inner.find(folder, path)
        else:
            sources = locate(folder, path, names, self.name, self.split)
        self._pools = self._read_pools(folder, path, sources)
        return sources

    def _read_pools(self, folder: str, path: str | None, sources: list[Source]) -> dict[str, list[Any]]:
        """Examples by subject; under "" those of all subjects."""
        form = self.form
        pools: dict[str, list[Any]] = defaultdict(list)
        if not self.num_shots:
            return pools
        if form.shots == "fixed":
            return fixed_texts(sources)
        found = sources
        if form.shots != "others":
            names = names_of(form.shots_files or form.files, form.shots_split)
            beside = path if path is not None and not form.shots_files and Path(path).is_dir() else None
            found = locate(folder, self.config.shots_path or beside, names, self.name, form.shots_split)
        for source, record in records(found):
            if self._item(record) is not None:
                pools[source.subject].append(record)
                if source.subject:
                    pools[""].append(record)
        return pools

    def load(self, *files: Path | Source) -> list[EvalProblem]:
        """As every task; examples that are drawn anew for each question are drawn in the questions' order."""
        self._drawer = random.Random(SHOTS_SEED)
        problems = super().load(*files)
        if isinstance(self.inner, LiveCodeBench):
            self.notes += self.inner.notes
        return problems

    def _item(self, record: Record) -> Item | None:
        try:
            return self.form.read(record)
        except NoAnswer:
            return None

    def problem(self, record: dict[str, Any], number: int) -> EvalProblem | None:
        form, item = self.form, self.form.read(record)
        if item is None:
            return None
        start = self._start(record)
        inner = self.inner.problem(record, number) if self.inner else None
        if self.inner and inner is None:
            return None
        prompt = start + item.question + self.config.answer_prefix
        if item.choices:
            pairs = self._pairs(start, prompt, item)
            right = item.contexts[item.gold[0]] if item.contexts else item.choices[item.gold[0]]
            return EvalProblem(
                id=f"{item.group}/{number}" if item.group else str(number),
                messages=[],
                question=item.question or " ".join([*item.contexts, *item.choices]),
                prompt=prompt,
                pairs=pairs,
                reference={"gold": item.gold, "lengths": [len(one) for one in item.choices]},
                shown=right,
                golden=json.dumps([0.0 if place in item.gold else -1e9 for place in range(len(pairs))]),
                group=item.group,
            )
        assert inner is not None
        stop = form.stop if self.config.stop is None else tuple(self.config.stop)
        reference = {"record": record, "inner": inner}
        return replace(
            inner,
            messages=[],
            question=inner.question or item.question,
            prompt=prompt,
            stop=stop,
            reference=reference,
            golden=item.golden or item.answer or inner.golden,
        )

    def _pairs(self, start: str, prompt: str, item: Item) -> tuple[tuple[str, str], ...]:
        if item.contexts:
            return tuple((start + context, f" {item.choices[0]}") for context in item.contexts)
        return tuple((prompt, self.form.delimiter + choice) for choice in item.choices)

    def _start(self, record: Record) -> str:
        if self.form.shots == "fixed" and self.num_shots:
            return self._fixed(record)
        return render(self.form, record, list(self._examples(record)))

    def _fixed(self, record: Record) -> str:
        texts = self._pools.get(str(record.get("subject", ""))) or []
        if len(texts) < self.num_shots + 1:
            raise ValueError(f"its subject {record.get('subject')!r} has {max(0, len(texts) - 1)} worked examples")
        return "".join(f"{text}{self.form.separator}" for text in texts[: self.num_shots + 1])

    def _examples(self, record: Record) -> Sequence[Record]:
        if not self.num_shots:
            return []
        pool = self._pools.get(str(record.get("subject", ""))) or self._pools.get("") or []
        if self.form.shots == "random":
            # lm-evaluation-harness draws one more where a benchmark has no test split, to replace the question itself.
            count = self.num_shots + (self.split == "val")
            drawn = self._drawer.sample(pool, count) if len(pool) >= count else []
            chosen = [one for one in drawn if one != record][: self.num_shots]
        else:
            chosen = [one for one in pool[: self.num_shots + 1] if one != record][: self.num_shots]
        if len(chosen) < self.num_shots:
            raise ValueError(f"{self.num_shots} examples are asked for, {len(pool)} are there: set tasks.num_shots")
        return chosen

    async def grade(self, problem: EvalProblem, response: str, graders: Graders) -> Grade:
        if problem.pairs:
            return compare(problem, response, self.form.is_normalised)
        assert self.inner is not None
        reference = problem.reference
        written = self.form.in_its_form(self.config.answer_prefix + response, reference["record"])
        return await self.inner.grade(reference["inner"], written, graders)


def compare(problem: EvalProblem, response: str, is_normalised: bool) -> Grade:
    """Right where the likeliest choice is; both ways of comparing are kept."""
    nats, gold = json.loads(response), problem.reference["gold"]
    lengths = problem.reference["lengths"]
    lengths = lengths * (len(nats) // len(lengths))
    plain = nats.index(max(nats))
    per_character = [one / max(length, 1) for one, length in zip(nats, lengths, strict=True)]
    normalised = per_character.index(max(per_character))
    chosen = normalised if is_normalised else plain
    details = {"log_likelihood": float(plain in gold), "per_character": float(normalised in gold)}
    return Grade(float(chosen in gold), chr(ord("A") + chosen), "right" if chosen in gold else "wrong", details)


def names_of(files: Sequence[str], split: str) -> tuple[str, ...]:
    """`gsm8k_test` before `gsm8k`."""
    return (*(f"{name}_{split}" for name in files), *files)


def records(sources: Sequence[Source]) -> Iterator[tuple[Source, Record]]:
    for source in sources:
        for record in read_records(source.path):
            yield source, {"subject": source.subject} | record if source.subject else record


def fixed_texts(sources: Sequence[Source]) -> dict[str, list[str]]:
    """BBH's worked examples, `cot-prompts/SUBJECT.txt` beside the questions; the task's description comes first."""
    root = sources[0].path.parent
    found = next((place / "cot-prompts" for place in (root, root.parent) if (place / "cot-prompts").is_dir()), None)
    if found is None:
        raise UserError(f"no folder cot-prompts in or beside {root}: BBH's worked examples are its files")
    texts = {}
    for file in sorted(found.glob("*.txt")):
        text = file.read_text(encoding="utf-8").partition("-----\n")[2] or file.read_text(encoding="utf-8")
        texts[file.stem] = re.split(r"\n\n(?=Q: )", text.strip("\n"))
    return texts
