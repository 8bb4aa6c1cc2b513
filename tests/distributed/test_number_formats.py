"""`precision.dtype: auto` through the real program on machines with and without bf16, and from one to the other."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from megatron_mimo.convert.export import export_checkpoint
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.serve.speculative import compute_dtype
from support.launch import Ranks, python
from support.patience import patience
from support.tiny import tiny_tree, write_run

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "programs" / "number_formats.py"
WITH, WITHOUT = "1", "0"
AGREE = """
import sys
import torch.distributed as dist
from megatron_mimo.config import UserError
from megatron_mimo.training.number_format import check_same_number_format
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
for dtypes in (("bf16", "bf16"), ("fp32", "fp32"), ("bf16", "fp32")):
    try:
        check_same_number_format(dtypes[rank])
        print("agreed")
    except UserError as error:
        print(error)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> tuple[Path, str]:
    """The folder of runs `bf16` and `fp32` with what started from or resumed them, and what the programs said."""
    folder = tmp_path_factory.mktemp("formats")
    jobs: list[tuple[str, list[str]]] = []

    def job(switch: str, name: str, *overrides: str, start: str = "") -> None:
        tree = tiny_tree(tiny_data, folder / name / "run", steps=8) | {"precision": {"dtype": "auto"}}
        tree |= {"checkpoint": {"every_steps": 2, "keep_last": 10}, "evaluation": {"sequences": 1}}
        if start:
            rest = [
                {"kind": "constant", "tokens": stage["tokens"], "start": 0.0, "end": 0.0} for stage in tree["stages"]
            ]
            tree["stages"] = [
                stage | {"learning_rate": [rate]} for stage, rate in zip(tree["stages"], rest, strict=True)
            ]
            tree |= {"start": {"checkpoint": str(folder / start / "run" / "checkpoints" / "step_00000002")}}
        jobs.append((switch, [str(write_run(folder / name, tree)), *overrides]))

    for switch, name in ((WITH, "bf16"), (WITHOUT, "fp32")):
        job(switch, name, "max_steps=2")
    for switch, name in ((WITHOUT, "bf16"), (WITH, "fp32")):
        job(switch, name, "max_steps=4")
    job(WITHOUT, "fp32_from_bf16", "max_steps=2", start="bf16")
    job(WITH, "bf16_from_fp32", "max_steps=2", start="fp32")
    for switch, name, other in ((WITHOUT, "bf16", "fp32"), (WITH, "fp32", "bf16")):
        job(switch, name, "max_steps=6", f"precision.dtype={other}")
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    done = python(str(PROGRAM), str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stderr


def facts(run: Path, step: int) -> dict[str, Any]:
    return json.loads((run / "checkpoints" / f"step_{step:08d}" / "run.json").read_text())["config"]["precision"]


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.mark.parametrize(("name", "switch"), [("bf16", WITH), ("fp32", WITHOUT)])
def test_the_choice_and_its_reason_are_on_record(runs, name, switch):
    run = runs[0] / name / "run"
    reason = f"auto: MEGATRON_MIMO_CPU_BF16={switch}"
    assert (facts(run, 2)["dtype"], facts(run, 2)["dtype_reason"]) == (name, reason)
    # The last run in this folder was asked for the other format.
    other = {"bf16": "fp32", "fp32": "bf16"}[name]
    assert yaml.safe_load((run / "config.yaml").read_text())["precision"]["dtype"] == other
    chosen = json.loads((run / "environment.json").read_text())["chosen"]["number format"]
    assert chosen == f"{other} (asked for by precision.dtype)"


def test_a_resumed_run_keeps_its_format_on_another_machine(runs):
    folder, said = runs
    for name, other in (("bf16", "fp32"), ("fp32", "bf16")):
        kept = facts(folder / name / "run", 4)
        assert (kept["dtype"], kept["dtype_reason"]) == (name, "auto: as the run started")
        assert said.count(f"precision.dtype={name}, as the run started; this machine would choose {other}") == 1
    # bf16 kept on a machine without it, and nowhere else.
    assert said.count("GFLOP/s in bf16") == 1


def test_a_run_that_is_asked_to_goes_on_in_the_other_format(runs):
    """The same data in both: they learn alike before and after the change; a lost optimizer or weight would show."""
    folder, said = runs
    assert said.count("so far, and goes on in") == 2
    first, second = (losses(folder / name / "run") for name in ("bf16", "fp32"))
    assert len(first) == len(second) == 6
    torch.testing.assert_close(torch.tensor(first), torch.tensor(second), rtol=0.01, atol=0)
    assert facts(folder / "bf16" / "run", 6)["dtype"] == "fp32"


@pytest.mark.parametrize(
    ("name", "source", "dtype"),
    [("fp32_from_bf16", "bf16", torch.float32), ("bf16_from_fp32", "fp32", torch.bfloat16)],
)
def test_weights_start_a_run_in_the_other_format(runs, name, source, dtype):
    """With a learning rate of 0 the new run's checkpoint holds the old one's weights, rounded once or not at all."""
    folder, _ = runs
    before = TorchDistCheckpoint(folder / source / "run" / "checkpoints" / "step_00000002")
    after = TorchDistCheckpoint(folder / name / "run" / "checkpoints" / "step_00000002")
    assert set(before.shapes) == set(after.shapes)
    for key in before.shapes:
        assert after.read(key).dtype == dtype
        assert torch.equal(after.read(key), before.read(key).to(dtype)), key


@pytest.mark.parametrize(("name", "step", "dtype"), [("bf16", 2, "bfloat16"), ("fp32", 2, "float32")])
def test_the_export_has_the_format_of_the_run_and_vllm_that_of_the_export(
    runs, name, step, dtype, tmp_path, monkeypatch, capsys
):
    export_checkpoint(runs[0] / name / "run" / "checkpoints" / f"step_{step:08d}", tmp_path / "hf")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["torch_dtype"] == dtype
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", WITH)
    assert compute_dtype(tmp_path / "hf") == dtype
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", WITHOUT)
    assert [compute_dtype(tmp_path / "hf") for _ in range(2)] == ["float32"] * 2
    said = capsys.readouterr().err
    assert said.count("bfloat16 weights run in float32 here") == (dtype == "bfloat16")


def test_ranks_on_unlike_machines_are_refused_on_all_of_them(tmp_path):
    with contextlib.ExitStack() as stack:
        ranks = [stack.enter_context(Ranks(0, "-c", AGREE, str(rank), str(tmp_path / "store"))) for rank in range(2)]
        for rank in ranks:
            first, second, third = rank.completed(patience(60)).stdout.strip().splitlines()
            assert (first, second) == ("agreed", "agreed")
            assert "set precision.dtype to bf16 or fp32" in third
