"""Bad fine-tuning data and a model that goes away, as a user meets them on the command line."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.chat_server import ChatServer, chat_server
from support.launch import python
from support.tiny import tiny_tree

pytestmark = pytest.mark.slow

GOOD = [
    {"messages": [{"role": "user", "content": f"the token {n}"}, {"role": "assistant", "content": "every rank"}]}
    for n in range(12)
]


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = python(*arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def preview(tiny_data: Path, tmp_path: Path):
    """`preview(records, **data settings)`: the first stage of `megatron_mimo.sft`, on a file of these records."""
    tree = {key: value for key, value in tiny_tree(tiny_data, tmp_path / "run").items() if key in ("name", "model")}
    tree |= {
        "output_dir": str(tmp_path / "run"), "start": {"checkpoint": str(tmp_path)}, "seq_length": 128,
        "rotary_base": 10_000, "global_batch_size": 4, "learning_rate": 1e-3, "mtp_loss_scaling_factor": 0.1,
    }  # fmt: skip

    def run(records: list[Any], **settings: Any) -> subprocess.CompletedProcess[str]:
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (tmp_path / "chat.jsonl").write_text("".join(f"{line}\n" for line in lines))
        data = {"sources": [{"path": str(tmp_path / "chat.jsonl")}], "tokenizer": str(tiny_data / "tokenizer"),
                "prepared": str(tmp_path / "prepared"), "valid_share": 0.0, "drop_mixed_language": False}  # fmt: skip
        (tmp_path / "sft.yaml").write_text(yaml.safe_dump(tree | {"data": data | settings}))
        return started("-m", "megatron_mimo.sft", str(tmp_path / "sft.yaml"), "--preview")

    return run


BAD = {
    "not JSON": '{"messages": [',
    "unknown role": {"messages": [{"role": "narrator", "content": "x"}, {"role": "assistant", "content": "y"}]},
    "no assistant turn to learn from": {"messages": [{"role": "user", "content": "x"}]},
    "longer than seq_length=128": {
        "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "every rank " * 300}]
    },
}


def test_bad_records_are_counted_by_cause_and_listed_or_stop(preview, tmp_path: Path) -> None:
    done = preview([*GOOD, *BAD.values()])
    assert done.returncode == 0, done.stderr
    assert "chat.jsonl: 16 records, 12 to train on" in done.stdout
    for cause in BAD:
        assert f"{cause} 1" in done.stdout
    listed = [json.loads(line) for line in (tmp_path / "prepared" / "refused.jsonl").read_text().splitlines()]
    assert [entry["place"].rsplit(":", 1)[1] for entry in listed] == ["13", "14", "15", "16"]

    stopped = preview([*GOOD, *BAD.values()], on_bad_record="stop")
    assert stopped.returncode == 2
    assert "chat.jsonl:13: not JSON" in stopped.stderr and "set data.on_bad_record=skip" in stopped.stderr
    mended = preview(GOOD, on_bad_record="stop")
    assert mended.returncode == 0 and "12 records, 12 to train on" in mended.stdout


def test_nothing_to_train_on_and_no_template(preview, tiny_data: Path, tmp_path: Path) -> None:
    empty = preview([])
    assert empty.returncode == 2 and "no conversation to train on is left: the files are empty" in empty.stderr
    useless = preview([BAD["unknown role"]])
    assert useless.returncode == 2 and "is left: unknown role 1; each is listed in" in useless.stderr
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "tokenizer.json").write_bytes((tiny_data / "tokenizer" / "tokenizer.json").read_bytes())
    settings = json.loads((tiny_data / "tokenizer" / "tokenizer_config.json").read_text())
    (bare / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": None}))
    untold = preview(GOOD, tokenizer=str(bare))
    assert untold.returncode == 2 and "has no chat template: add chat_template" in untold.stderr
    assert not (tmp_path / "prepared").exists()


def test_an_endpoint_that_goes_down_mid_run(tmp_path: Path) -> None:
    """Nine answers, then hang-ups: told with the count, no results yet; the same command draws the other eleven."""
    rows = [{"problem": f"{n} and 0?", "answer": str(n)} for n in range(20)]
    (tmp_path / "math_500.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    generation = {"served_model": "m", "max_attempts": 2, "first_delay_seconds": 0.1, "max_concurrent_requests": 4}
    (tmp_path / "evaluate.yaml").write_text(yaml.safe_dump({"tasks": [{"task": "math_500"}], "generation": generation}))
    server = ChatServer(lambda body: f"\\boxed{{{body['messages'][-1]['content'].split()[0]}}}")
    results = tmp_path / "out" / "results.json"
    with chat_server(server):
        command = ["tools/evaluate.py", str(tmp_path / "evaluate.yaml"), "--model", server.url]
        command += ["--data", str(tmp_path), "--output", str(tmp_path / "out")]
        server.faults = [200] * 9 + [0] * 60
        down = started(*command)
        assert down.returncode == 2, down.stderr
        assert "the model stopped answering after 9 of 20 answers" in down.stderr
        assert "run the same command again to go on" in down.stderr
        assert not results.exists()
        server.faults, asked = [], len(server.bodies)
        up = started(*command)
    assert up.returncode == 0, up.stderr
    assert "9 of 20 answers are stored already" in up.stdout
    assert len(server.bodies) - asked == 11
    task = json.loads(results.read_text())["tasks"]["math_500"]
    assert (task["score"], task["answers"], task["missing"]) == (1.0, 20, 0)
