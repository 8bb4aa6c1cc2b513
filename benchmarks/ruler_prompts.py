"""RULER's prompts and answers beside those of NVIDIA's own generator, for every kind.

    git clone https://github.com/NVIDIA/RULER
    pip install wonderwords
    python benchmarks/ruler_prompts.py RULER --tokenizer MODEL_DIR [--lengths 4096 32768] [--page ruler.html]

Its generator runs as it is, on the same essays, questions and documents as ours (made of Python's documentation here;
its own downloads are not needed). One thing is replaced: the splitter of sentences, which needs a download of nltk's.

`frame`: NVIDIA's prompt matches our wording byte for byte around context and query, worked examples included.
`context`: both contexts consist of the same kinds of lines, names and numbers masked (of word lists: words come equally
often); what only one of them has is shown.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from megatron_mimo.eval.ruler.form import KINDS, WORDINGS
from megatron_mimo.eval.ruler.haystack import Haystack, find_haystack
from megatron_mimo.eval.ruler.task import Ruler, answer_tokens
from megatron_mimo.platform.files import write_text
from megatron_mimo.platform.page import page, section, table

SPLITTER = "import re\ndef sent_tokenize(text):\n    return re.split(r'(?<=[.!?]) ', text)\n"
STAND_IN = "class data:\n    @staticmethod\n    def find(path):\n        return path\n"
MASKS = (
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b\d{7}\b"), "NUMBER"),
    (re.compile(r"(?<= for )\S+(?= is: )"), "KEY"),
    (re.compile(r"\b[A-Z]{5}\b"), "NAME"),
    (re.compile(r"\b\d{5}\b"), "VALUE"),
)
NEEDLE = re.compile(r"One of the special magic \w+ for KEY is: \w+\.|VAR NAME = \w+(?: NAME)?")


def main() -> None:
    """Print the table; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nvidia", type=Path, help="checkout of NVIDIA/RULER")
    parser.add_argument("--tokenizer", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 32768])
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    tokenizer: Any = AutoTokenizer.from_pretrained(args.tokenizer, trust_remote_code=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scripts = prepare(args.nvidia, Path(folder))
        for length in args.lengths:
            for kind in args.kinds:
                theirs = generated(scripts, kind, length, args)
                ours = Ruler(kind, length, args.samples, is_completion=True, data=folder).generate(
                    lambda text: len(tokenizer.tokenize(text))
                )
                texts = [problem.prompt or "" for problem in ours]
                lengths = [len(tokenizer.tokenize(text)) + answer_tokens(kind) for text in texts]
                rows.append(row(kind, length, theirs, texts, lengths, ours[0].shown))
                print("  ".join(f"{key}: {value}" for key, value in rows[-1].items() if key not in PROSE), flush=True)
    if args.page:
        note = "Length: prompt, answer prefix and room for the answer, in per cent of the target, least and most."
        body = [section("RULER beside NVIDIA's generator", table(rows), note=note)]
        write_text(args.page, page("RULER's prompts", body), errors="replace")


PROSE = ("begins (theirs)", "begins (ours)", "ends (theirs)", "ends (ours)")


def prepare(nvidia: Path, folder: Path) -> Path:
    """Their scripts with our essays, words, questions and splitter of sentences."""
    haystack = find_haystack("", None)
    shutil.copytree(nvidia / "scripts", folder / "scripts")
    scripts = folder / "scripts" / "data"
    texts = scripts / "synthetic" / "json"
    (texts / "PaulGrahamEssays.json").write_text(json.dumps({"text": haystack.text}))
    (texts / "english_words.json").write_text(json.dumps(dict(enumerate(haystack.words))))
    squad, hotpot = questions(haystack)
    for place in (texts, folder):
        (place / "squad.json").write_text(json.dumps(squad))
        (place / "hotpotqa.json").write_text(json.dumps(hotpot))
    (folder / "nltk").mkdir()
    (folder / "nltk" / "__init__.py").write_text(STAND_IN)
    (folder / "nltk" / "tokenize.py").write_text(SPLITTER)
    return scripts


def questions(haystack: Haystack) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Documents out of the essays, in the files' forms of SQuAD and HotpotQA."""
    rng, words = random.Random(0), haystack.tokens
    passages = [" ".join(words[start : start + rng.randrange(40, 200)]) for start in range(0, len(words) - 200, 120)]
    qas = [{"question": f"What does passage {i} begin with?", "is_impossible": False,
            "answers": [{"text": text.split()[0]}]} for i, text in enumerate(passages)]  # fmt: skip
    squad = [
        {"paragraphs": [{"context": passages[j], "qas": [qas[j]]} for j in range(i, min(i + 5, len(passages)))]}
        for i in range(0, len(passages), 5)
    ]
    hotpot = [
        {"question": f"What begins passage {i}?", "answer": passages[i].split()[0],
         "context": [[f"Passage {j}", [passages[j][:300]]] for j in range(i, i + 10)]}
        for i in range(0, len(passages) - 10, 10)
    ]  # fmt: skip
    return {"version": "v2.0", "data": squad}, hotpot


def generated(scripts: Path, kind: str, length: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The records that their `prepare.py` writes."""
    target = scripts.parents[1] / "made" / str(length)
    done = subprocess.run(
        [sys.executable, "prepare.py", "--save_dir", target, "--benchmark", "synthetic", "--task", kind,
         "--tokenizer_path", args.tokenizer.resolve(), "--tokenizer_type", "hf", "--max_seq_length", str(length),
         "--model_template_type", "base", "--num_samples", str(args.samples)],
        cwd=scripts, capture_output=True, text=True, timeout=900,
        env=os.environ | {"PYTHONPATH": f"{scripts.parents[1]}:{os.environ.get('PYTHONPATH', '')}",
                          "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    written = target / kind / "validation.jsonl"
    if not written.exists():
        raise SystemExit(f"NVIDIA's generator made no {kind}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in written.read_text().splitlines()]


def row(
    kind: str, length: int, theirs: list[dict[str, Any]], ours: list[str], lengths: list[int], answer: str
) -> dict[str, Any]:
    prompts = [record["input"] + record["answer_prefix"] for record in theirs]
    pattern = wording(kind)
    matches = [(pattern.fullmatch(prompt), pattern.fullmatch(text)) for prompt, text in zip(prompts, ours, strict=True)]
    shapes = [lines(kind, prompts), lines(kind, ours)]
    their_share, our_share = share([record["length"] for record in theirs], length), share(lengths, length)
    return {
        "kind": kind,
        "tokens": length,
        "frame": "equal" if all(one and other for one, other in matches) else "DIFFERENT",
        "context": "equal" if shapes[0] == shapes[1] else difference(*shapes),
        "length (theirs)": their_share,
        "length (ours)": our_share,
        "answer (theirs)": ", ".join(theirs[0]["outputs"])[:80],
        "answer (ours)": answer[:80],
        "begins (theirs)": prompts[0][:200],
        "begins (ours)": ours[0][:200],
        "ends (theirs)": prompts[0][-250:],
        "ends (ours)": ours[0][-250:],
    }  # fmt: skip


def difference(theirs: set[str], ours: set[str]) -> str:
    return f"only theirs: {sorted(theirs - ours)}, only ours: {sorted(ours - theirs)}"


def wording(kind: str) -> re.Pattern[str]:
    """Our wording with anything as context and query; worked examples are the same wording once before."""
    family = KINDS[kind].family
    if family == "needles":
        many = KINDS[kind].num_values * KINDS[kind].num_queries > 1
        asked, things = WORDINGS["needles" if many else "needle"], KINDS[kind].value + ("s" if many else "")
    else:
        asked, things = WORDINGS[family], ""
    text = re.escape(asked.prompt + asked.prefix).replace(r"\{things\}", things)
    text = text.replace(r"\{context\}", "(?:.+?)").replace(r"\{query\}", "(?:[^\n]+?)")
    example = {"variables": rf"{text} (?:[A-Z]{{3}} ?){{5}}\n\n", "common_words": rf"{text}(?: \d+\. \S+){{10}}\n"}
    return re.compile(example.get(family, "") + text, re.DOTALL)


def lines(kind: str, prompts: list[str]) -> set[str]:
    """The kinds of lines of contexts, names and numbers masked; of prose the needles alone."""
    found: set[str] = set()
    for prompt in prompts:
        text = prompt
        for pattern, mask in MASKS:
            text = pattern.sub(mask, text)
        if KINDS[kind].haystack == "essay":
            found |= set(NEEDLE.findall(text))
        elif KINDS[kind].family in ("needles", "variables"):
            found |= {
                line.strip() for line in text.splitlines() if NEEDLE.match(line) or line.startswith(("The ", "Here"))
            }
        elif KINDS[kind].family == "documents":
            found |= {re.sub(r"\d+", "N", line) for line in re.findall(r"^Document \d+:$", text, re.MULTILINE)}
        elif kind == "cwe":
            listed = re.findall(r"\d+\. (\S+)", prompt.rpartition("Below is")[2].partition("\nQuestion")[0])
            found |= {f"words that come {times} times" for times in Counter(listed).values()}
        else:
            signs = prompt.partition("coded words. ")[2].partition("\nQuestion")[0].split(" ")
            common = Counter(signs).most_common(3)
            found |= {f"sign {place}: {100 * times / len(signs):.0f} %" for place, (_, times) in enumerate(common)}
    return found


def share(lengths: list[int], target: int) -> str:
    """Least and most, in per cent of the target."""
    return f"{100 * min(lengths) / target:.2f} to {100 * max(lengths) / target:.2f} %"


if __name__ == "__main__":
    main()
