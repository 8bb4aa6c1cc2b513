"""The curation of RL problems from raw files to the last step: is every planted problem dropped, and no other?

    python benchmarks/curation.py                       # 2,000 raw problems, two models of 16 rollouts: some minutes
    python benchmarks/curation.py --problems 200 --rollouts 4

Raw mathematics and code are generated, three in ten of them with a known fault: proofs, multiple choice, answers or
tests missing, repetitions (whole, and with a few words changed), texts of a benchmark, golden solutions that are wrong,
crash or never end, problems that the trained model solves too often or that no model solves. The sound ones hold words
that look like faults. Two "models" behind an OpenAI-compatible address solve each problem in a known share of rollouts.
Then the commands of `megatron-mimo curate-problems` run one after another, as docs/rl.md shows them.
Exit code 1 where a problem was dropped that should stay, stayed that should go, or went for another reason.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from megatron_mimo.cli import curate_problems
from megatron_mimo.data.decontaminate.__main__ import main as decontaminate
from megatron_mimo.platform.files import write_json
from megatron_mimo.rl.problems.curate import beside
from megatron_mimo.rl.problems.problem import read_problems

Record = dict[str, Any]
SHARES = {  # of all raw problems; the rest is sound
    "proof": 0.03, "multiple choice": 0.03, "no answer": 0.01, "repetition": 0.05, "contaminated": 0.02,
    "math too easy": 0.03, "math unsolved": 0.03,
    "no tests": 0.01, "wrong golden": 0.015, "crashing golden": 0.005, "endless golden": 0.002,
    "code too easy": 0.015, "code unsolved": 0.015,
    "sound code": 0.12,
}  # fmt: skip
REASONS = {
    "proof": "proof", "multiple choice": "multiple choice", "no answer": "no answer", "no tests": "no tests",
    "repetition": "repetition", "contaminated": "in held_back", "wrong golden": "golden solution: wrong_answer",
    "crashing golden": "golden solution: runtime_error", "endless golden": "golden solution: time_limit",
    "math too easy": "too easy", "math unsolved": "unsolved", "code too easy": "too easy", "code unsolved": "unsolved",
}  # fmt: skip
NOUNS, VERBS, PEOPLE = (
    words.split()
    for words in (
        "apples rivers stones clouds tigers lemons pianos lanterns bridges candles gardens harbours mirrors needles "
        "oranges pebbles quilts ribbons saddles turtles umbrellas violins wagons acorns baskets cables diaries engines "
        "feathers gloves hammers islands jackets kettles ladders magnets notebooks ovens pockets radios",
        "buys sells counts hides paints moves lends finds breaks mends weighs sorts packs carries borrows collects "
        "washes draws throws plants",
        "Ada Boris Chen Dalia Emre Fatou Goran Hana Ivan Jun Kofi Lena Mara Nils Omar Petra Quinn Rosa Sven Tariq",
    )
)
ASIDES = (
    "Show your work.", "Verify your result.", "Point A and point B are marked.", "This may improve that.",
    "Write $x$ for the number.", "Which of the two is it?", "Only the number counts.", "", "", "", "",
)  # fmt: skip
QUESTIONS = ("How many remain?", "What is the total?", "Find the number.", "Determine how many there are.")


@dataclass
class Raw:
    """The generated files, and what must become of them."""

    math: list[Record] = field(default_factory=list)
    code: list[Record] = field(default_factory=list)
    benchmark: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """Of every planted problem, by id."""
    answers: dict[str, "Answers"] = field(default_factory=dict)
    """By prompt, for the models."""


@dataclass(frozen=True)
class Answers:
    """What the models say: right in so many of 16 rollouts."""

    right: str
    wrong: str
    rates: dict[str, int]


def story(generator: random.Random) -> str:
    """Sentences of which no two problems share half of their eight-word runs."""
    parts = []
    for _ in range(generator.randrange(2, 5)):
        person, verb, noun = generator.choice(PEOPLE), generator.choice(VERBS), generator.choice(NOUNS)
        number, more, other = generator.randrange(2, 999), generator.randrange(2, 99), generator.choice(NOUNS)
        parts.append(f"{person} {verb} {number} {noun} and {more} {other}.")
    return " ".join([*parts, generator.choice(ASIDES), generator.choice(QUESTIONS)])


def make_raw(number: int, seed: int = 1) -> Raw:
    """`number` raw problems, shuffled within their files; repetitions and what they repeat included."""
    generator, raw = random.Random(f"curation {seed}"), Raw()
    counts = {kind: max(1, round(share * number)) for kind, share in SHARES.items()}
    counts["sound math"] = number - sum(counts.values())
    for kind, count in counts.items():
        for index in range(count if kind != "repetition" else 0):
            add(raw, kind, f"{kind}-{index}".replace(" ", "-"), generator)
    for records in (raw.math, raw.code):
        generator.shuffle(records)
    # Repetitions come after what they repeat: the first of them stays.
    sound = [record for record in raw.math if record["id"].startswith("sound")]
    for index in range(counts["repetition"]):
        original = generator.choice(sound)
        raw.math.append(original | {"id": f"again-{index}", "problem": reworded(original["problem"], index, generator)})
        raw.reasons[f"again-{index}"] = REASONS["repetition"]
    return raw


def reworded(text: str, index: int, generator: random.Random) -> str:
    """The same in capitals, in other spacing, or with a word more."""
    return (text.upper(), text.replace(" ", "  "), f"{text} {generator.choice(NOUNS)}")[index % 3]


def add(raw: Raw, kind: str, name: str, generator: random.Random) -> None:
    code = "golden" in kind or "code" in kind or kind == "no tests"
    (add_code if code else add_math)(raw, kind, name, story(generator), generator)
    if kind in REASONS:
        raw.reasons[f"mbpp/{name}" if code else name] = REASONS[kind]


def add_math(raw: Raw, kind: str, name: str, text: str, generator: random.Random) -> None:
    answer = generator.choice(
        [
            str(generator.randrange(1000)),
            rf"\frac{{{generator.randrange(1, 99)}}}{{101}}",
            f"{generator.randrange(99)}.5",
        ]
    )
    if kind == "proof":
        text = generator.choice(["Prove that {} holds.", "Let $n$ be even. Show that this is so: {}"]).format(text)
    if kind == "multiple choice":
        text = f"{text} (A) ${answer}$ (B) ${answer}+1$ (C) ${answer}+2$ (D) none of these"
    if kind == "contaminated":
        raw.benchmark.append(f"In an old book. {text} The end.")
        text = f"{text} Give a number."
    raw.math.append({"id": name, "problem": text, "answer": " " if kind == "no answer" else answer})
    raw.answers[text] = Answers(rf"So it is \boxed{{{answer}}}.", r"So it is \boxed{7777}.", rates_of(kind, generator))


def add_code(raw: Raw, kind: str, name: str, text: str, generator: random.Random) -> None:
    function, number = f"f_{name.replace('-', '_')}", generator.randrange(2, 99)
    right = f"def {function}(x):\n    return min(x, {number})"
    golden = {
        "wrong golden": f"def {function}(x):\n    return x",
        "crashing golden": f"def {function}(x):\n    return x // 0",
        "endless golden": f"def {function}(x):\n    while True:\n        x += 1",
        "code unsolved": "",
    }.get(kind, right)
    # The second and third test are hard: an answer that returns x fails them.
    inputs = (1, 500 + number, 700 + number)
    tests = [] if kind == "no tests" else [f"assert {function}({x}) == {min(x, number)}" for x in inputs]
    raw.code.append({"task_id": name, "text": text, "test_list": tests, "code": golden})
    prompt = f"{text}\nYour code should satisfy this test:\n{tests[0]}" if tests else text
    lazy = f"def {function}(x):\n    return {'x' if kind != 'code unsolved' else '-1'}"
    raw.answers[prompt] = Answers(f"```python\n{right}\n```", f"```python\n{lazy}\n```", rates_of(kind, generator))


def rates_of(kind: str, generator: random.Random) -> dict[str, int]:
    """Right ones of 16 rollouts, for each model."""
    if "unsolved" in kind:
        return {"trained": 0, "advanced": 0}
    return {"trained": 16 if "too easy" in kind else generator.randrange(1, 12), "advanced": 16}


@contextmanager
def models(raw: Raw, num_rollouts: int) -> Iterator[str]:
    """The address of both models, served from a thread."""

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        asked, sample = body["messages"][-1]["content"], body["seed"]
        prompt = next(asked[: -len(end)] for end in INSTRUCTIONS if asked.endswith(end))
        answers = raw.answers[prompt]
        text = answers.right if sample * 16 < answers.rates[body["model"]] * num_rollouts else answers.wrong
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop", "index": 0}
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        return web.json_response({"choices": [choice], "usage": usage})

    loop, ready, port = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.append(runner.addresses[0][1])
        ready.set()
        return runner

    def run() -> None:
        runner = loop.run_until_complete(serve())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{port[0]}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


INSTRUCTIONS = ("\n\nGive the number in \\boxed{}.", "\n\nWrite a program.")


def write_inputs(raw: Raw, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in (("raw_math", raw.math), ("raw_code", raw.code)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    lines = "".join(json.dumps({"question": text}) + "\n" for text in raw.benchmark)
    (folder / "held_back.jsonl").write_text(lines)
    benchmarks = [{"name": "held_back", "files": str(folder / "held_back.jsonl"), "fields": ["question"]}]
    write_json(folder / "benchmarks.yaml", {"output_dir": str(folder / "index"), "benchmarks": benchmarks})


def run_commands(raw: Raw, folder: Path, num_rollouts: int, slots: int) -> Path:
    """Every command once; returns the last output."""
    write_inputs(raw, folder)
    call("index of the benchmark", decontaminate, [str(folder / "benchmarks.yaml")])
    step = curate_problems.main
    names = ("math", "code", "1_form", "2_dedup", "3_clean", "4_golden", "5_chosen", "train")
    math, code, formed, unique, clean, golden, chosen, final = (str(folder / f"{name}.jsonl") for name in names)
    call("form, mathematics", step, ["form", str(folder / "raw_math.jsonl"), math, "--format", "math"])
    call("form, code", step, ["form", str(folder / "raw_code.jsonl"), code, "--format", "mbpp"])
    call("form, both", step, ["form", math, code, formed])
    call("ngram_dedup", step, ["ngram_dedup", formed, unique])
    call("decontaminate", step, ["decontaminate", unique, clean, "--index", str(folder / "index")])
    call("golden", step, ["golden", clean, golden, "--slots", str(slots)])
    with models(raw, num_rollouts) as url:
        config = {
            "trained": {"url": url, "model": "trained"},
            "advanced": [{"url": url, "model": "advanced"}],
            "num_rollouts": num_rollouts,
            "math_instruction": INSTRUCTIONS[0],
            "code_instruction": INSTRUCTIONS[1],
            "reward": {"judge_slots": slots},
        }
        write_json(folder / "difficulty.yaml", config)
        call("difficulty", step, ["difficulty", golden, chosen, "--config", str(folder / "difficulty.yaml")])
    rollouts = [f"{chosen}.rollouts.{role}.jsonl" for role in ("trained", "advanced1")]
    call("levels", step, ["levels", chosen, final, "--rollouts", *rollouts])
    return Path(final)


def call(what: str, command: Any, arguments: list[str]) -> None:
    started = time.perf_counter()
    if command(arguments) != 0:
        raise SystemExit(f"{what} failed")
    print(f"    {what}: {time.perf_counter() - started:.1f} s", flush=True)


def dropped(folder: Path) -> dict[str, str]:
    """Problem -> reason, over all steps."""
    reasons = {}
    for path in sorted(folder.glob("*.dropped.jsonl")):
        for line in path.read_bytes().splitlines():
            record = msgspec.json.decode(line)
            reasons[record["problem"]["id"]] = record["reason"]
    return reasons


def differences(raw: Raw, folder: Path, final: Path) -> list[str]:
    """What went wrong, a line each; nothing may."""
    found, ids = dropped(folder), [*(one["id"] for one in raw.math), *(f"mbpp/{one['task_id']}" for one in raw.code)]
    wrong = [
        f"{name}: {found.get(name, 'kept')}, not {reason}"
        for name, reason in raw.reasons.items()
        if found.get(name) != reason
    ]
    wrong += [f"{name}: {reason}, not kept" for name, reason in found.items() if name not in raw.reasons]
    kept = {problem.id: problem for problem in read_problems(final)}
    wrong += [f"{name} is lost" for name in ids if name not in kept and name not in found]
    for path in folder.glob("*.report.json"):
        wrong += [f"{path.name}: {fault}" for fault in json.loads(path.read_text()).get("fault_list", [])]
    flat = [problem.id for problem in kept.values() if problem.kind == "code" and set(problem.levels or [0]) != {0, 1}]
    return (
        wrong
        + [f"{name}: no two levels of tests" for name in flat]
        + ([] if beside(final, ".report.json").is_file() else ["no report"])
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--rollouts", type=int, default=16, help="of each of two models, per problem")
    parser.add_argument("--slots", type=int, default=2, help="programs judged at a time")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    raw = make_raw(options.problems, options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        final = run_commands(raw, folder, options.rollouts, options.slots)
        wrong = differences(raw, folder, final)
        kept = sum(1 for _ in read_problems(final))
    print(f"\n{len(raw.math) + len(raw.code)} raw problems, {len(raw.reasons)} planted, {kept} kept")
    for reason, number in sorted(Counter(raw.reasons.values()).items()):
        print(f"{reason:35}{number:5}")
    print(*wrong, f"{len(wrong)} differences from what was planted", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
