"""Rollouts on disk and in the page: all of them, found by text, within the size, whatever they hold."""

import json
import random
import re
from pathlib import Path

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


def test_lengths_that_fit() -> None:
    assert fitting_length([10, 20, 30]) == 30
    assert fitting_length([10, MAX_BYTES, MAX_BYTES]) == (MAX_BYTES - 10) // 2
    assert fitting_length([]) == 0
