"""Rollouts on disk and in the page: all of them, found by text, within the size, whatever they hold."""

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from megatron_mimo.rl.problems.problem import Problem
from megatron_mimo.rl.rollout_log import RolloutLog, read_rollout_file, rollout_files
from megatron_mimo.rl.rollout_page import MAX_BYTES, fitting_length, write_rollout_page
from megatron_mimo.rl.sample import Outcome, Prompt, Sample, SampleGroup
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch

PROBLEMS = {
    f"p{n}": Problem(id=f"p{n}", prompt=f"What is {n} + {n}?", kind="math", answer=str(2 * n)) for n in range(10)
}


def decode(tokens) -> str:
    return "".join(map(chr, tokens))


def batch(step: int, num_groups: int, text) -> RolloutBatch:
    groups = []
    for number in range(num_groups):
        samples = []
        for index in range(5):
            tokens = list(map(ord, text(step, number, index)))
            samples.append(
                Sample(
                    tokens=tokens,
                    rollout_logprobs=[-0.123456] * len(tokens),
                    finish_reason="length" if index == 4 else "stop",
                    reward=index / 4,
                    solved=index == 3,
                    reward_parts={"accuracy": index / 4},
                    reward_details={"verdict": "wrong_answer", "tests": [True, False]},
                )
            )
        prompt = Prompt(id=f"p{number % 10}", domain="sums")
        group = SampleGroup(prompt=prompt, launch_index=number, samples=[*samples, None], outcome=Outcome.SELECTED)
        groups.append(group)
    return RolloutBatch(selected=groups, groups=groups, start_seconds=0, end_seconds=1, survival=1.0)


def data_of(path: Path) -> dict:
    content = re.search(r"<script type='application/json' id=data>(.*?)</script>", path.read_text(), re.S)
    assert content is not None
    return json.loads(content[1])


def test_every_response_is_kept_and_old_steps_go(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path, PROBLEMS, decode, keep_steps=3)
    for step in range(1, 6):
        log.write(step, batch(step, 4, lambda *place: f"answer of {place}"))
    assert [path.name for path in rollout_files(tmp_path)] == [f"step_{n:06}.jsonl.gz" for n in (3, 4, 5)]
    rows = list(read_rollout_file(rollout_files(tmp_path)[0]))
    assert len(rows) == 20, "the missing samples have nothing to read"
    row = rows[7]
    assert (row["problem"], row["sample"], row["response"]) == ("p1", 2, "answer of (3, 1, 2)")
    assert decode(row["tokens"]) == row["response"] and len(row["rollout_logprobs"]) == len(row["tokens"])
    assert (row["reward"], row["parts"], row["details"]["tests"]) == (0.5, {"accuracy": 0.5}, [True, False])


def test_nothing_is_written_where_it_is_switched_off(tmp_path: Path) -> None:
    RolloutLog(tmp_path, PROBLEMS, decode, keep_steps=0).write(1, batch(1, 1, lambda *_: "x"))
    assert rollout_files(tmp_path) == []
    assert write_rollout_page(tmp_path) is None


def test_the_page_holds_a_thousand_in_five_megabytes(tmp_path: Path) -> None:
    """A few responses are enormous: those are shortened, the others whole; markup in a response is text."""
    generator = random.Random(1)
    log = RolloutLog(tmp_path, PROBLEMS, decode, keep_steps=9)

    def text(step: int, number: int, index: int) -> str:
        start = f"needle {step}/{number}/{index} </script><script>alert(1)</script> <think>"
        return start + "é\n" * (200_000 if number == 3 else generator.randrange(20, 400))

    for step in (1, 2, 3):
        log.write(step, batch(step, 100, text))
    page = write_rollout_page(tmp_path)
    assert page is not None and page.stat().st_size < 5_000_000
    content = data_of(page)
    assert len(content["rollouts"]) == 1000
    assert content["prompts"]["p3"] == "What is 3 + 3?"
    assert sum("needle 3/7/2 " in row["response"] for row in content["rollouts"]) == 1
    assert {row["step"] for row in content["rollouts"]} == {2, 3}
    assert "alert(1)</script>" not in page.read_text()
    row = next(row for row in content["rollouts"] if "needle 3/7/4 " in row["response"])
    assert row["finish"] == "length" and "tests +-" in row["more"] and "expected 14" in row["more"]
    shortened = [row for row in content["rollouts"] if "characters ..." in row["response"]]
    assert len(shortened) == 10


BROWSER = """
const elements = {};
class Element {
  constructor(name) { Object.assign(this, {name, value: '', children: [], textContent: '', listeners: []}); }
  append(...parts) { this.children.push(...parts); }
  replaceChildren() { this.children = []; }
  addEventListener(_, call) { this.listeners.push(call); }
  get text() { return this.textContent + this.children.map(one => one.text ?? one).join(''); }
}
globalThis.document = {
  getElementById: id => elements[id] ??= new Element(id),
  createElement: name => new Element(name),
  querySelector: () => new Element('form'),
};
const page = require('fs').readFileSync(process.argv[2], 'utf8');
const part = mark => page.split(mark)[1].split('</script>')[0];
Object.assign(document.getElementById('data'), {textContent: part("id=data>")});
Object.assign(document.getElementById('order'), {value: 'newest'});
eval(page.split('<script>').at(-1).split('</script>')[0]);
const found = {};
for (const settings of JSON.parse(process.argv[3])) {
  for (const [id, value] of Object.entries(settings)) document.getElementById(id).value = value;
  elements.text.listeners[0]();
  found[JSON.stringify(settings)] = [elements.count.textContent, elements.list.children.map(one => one.text)];
}
console.log(JSON.stringify(Object.values(found)));
"""
"""As much of a browser as the page's script needs."""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's script")
def test_the_page_finds_a_response_by_its_text(tmp_path: Path) -> None:
    """The page's own script, over a thousand rollouts."""
    log = RolloutLog(tmp_path, PROBLEMS, decode, keep_steps=9)
    for step in (1, 2):
        log.write(step, batch(step, 100, lambda *place: "the Needle of {}/{}/{}. ".format(*place) + "so, " * 50))
    page = write_rollout_page(tmp_path)
    (tmp_path / "browser.js").write_text(BROWSER)
    asked = [
        {"text": ""},
        {"text": "NEEDLE of 2/17/3."},
        {"text": "what is 4 + 4", "order": "worst"},
        {"text": "", "problem": "p3", "only": "cut", "order": "longest"},
    ]
    command = ["node", str(tmp_path / "browser.js"), str(page), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    everything, one, worst, cut = json.loads(done.stdout)
    assert everything[0] == "1000 of 1000" and len(everything[1]) == 51, "fifty, and a line that says so"
    assert one[0] == "1 of 1000" and "p7 step 2, sample 3" in one[1][0]
    assert worst[0] == "100 of 1000" and all("reward 0," in text for text in worst[1][:20])
    assert cut[0] == "20 of 1000" and all("CUT at the budget" in text for text in cut[1])


def test_lengths_that_fit() -> None:
    assert fitting_length([10, 20, 30]) == 30
    assert fitting_length([10, MAX_BYTES, MAX_BYTES]) == (MAX_BYTES - 10) // 2
    assert fitting_length([]) == 0
