"""Communication beside compute, which only runs with GPUs overlap by themselves, changes nothing: forced on gloo."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.launch import ranks
from support.tiny import SEQ_LENGTH, tiny_tree, write_run

pytestmark = pytest.mark.slow

PROGRAM = str(Path(__file__).parent / "programs" / "overlap.py")
WORLD_SIZE = 4
INTERLEAVED = {"pipeline_model_parallel_size": 2, "virtual_pipeline_model_parallel_size": 2}
LAYOUTS: dict[str, dict[str, Any]] = {
    "DP4": {},
    "PP2, DP2": {"pipeline_model_parallel_size": 2},
    "interleaved, DP2": INTERLEAVED,
    "TP2, SP, DP2, small buckets": {"tensor_model_parallel_size": 2, "sequence_parallel": True},
}
"""By name; "small buckets" are those of a model larger than one bucket."""
SMALL_BUCKET = 10_000


def ramp_tree(data: Path, output_dir: Path, parallel: dict[str, Any]) -> dict[str, Any]:
    """Batches of 8, 16 and, in the second stage, 8 sequences: more and fewer micro-batches than the first step has."""
    tree = tiny_tree(data, output_dir, 8)
    first, second = tree["stages"]
    tokens = (2 * 8 + 2 * 16) * SEQ_LENGTH
    rate = [{"kind": "constant", "tokens": tokens, "start": 1e-2, "end": 1e-2}]
    ramp = {"start": 8, "increment": 8, "tokens": 2 * 8 * SEQ_LENGTH}
    first |= {"tokens": tokens, "learning_rate": rate, "batch_ramp": ramp, "global_batch_size": 16}
    for stage in (first, second):
        stage["micro_batch_size"] = 2 if parallel.keys() == LAYOUTS["PP2, DP2"].keys() else 1
    second |= {"global_batch_size": 8, "tokens": 2 * 8 * 2 * SEQ_LENGTH}
    second["learning_rate"] = [rate[0] | {"tokens": second["tokens"]}]
    tree["checkpoint"] = {"every_steps": 2, "keep_last": 100}
    tree["guard"] = {"hang_timeout_seconds": 0}
    # 6 held-out sequences: an odd number of micro-batches, which the interleaved schedule does not take.
    tree["evaluation"] = {"sequences": 3, "every_tokens": 2 * 8 * SEQ_LENGTH}
    # The norm is summed up in the order of the buckets: unclipped, what it rounds to reaches no parameter.
    tree["optimizer"] = {"clip_grad": 1e9}
    return tree | {"parallel": parallel, "precision": {"dtype": "fp32", "cross_entropy": "chunked"}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Every layout with and without overlap, in one start: the folder of the runs, and what each rank saw."""
    folder = tmp_path_factory.mktemp("overlap")
    jobs = {}
    for name, parallel in LAYOUTS.items():
        for overlap in (False, True):
            tree = ramp_tree(tiny_data, folder / f"{name}, {overlap}", parallel)
            tree["parallel"] = parallel | {"overlap_communication": overlap}
            write_run(folder, tree)
            bucket_size = SMALL_BUCKET if "small buckets" in name else None
            job = {"tree": tree, "folder": str(folder), "bucket_size": bucket_size, "packs": False}
            jobs[f"{name}, {overlap}"] = job
    # Several rows of documents by their bounds, through a pipeline.
    tree = jobs["PP2, DP2, True"]["tree"]
    tree = tree | {"output_dir": str(folder / "packed"), "checkpoint": {"every_steps": 100, "save_at_end": False}}
    jobs["packed"] = jobs["PP2, DP2, True"] | {"tree": tree, "packs": True}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    run = ranks(WORLD_SIZE, PROGRAM, str(folder / "jobs.json"), str(folder / "results"), timeout_seconds=600)
    assert run.returncode == 0, run.stderr[-4000:]
    return folder, [json.loads(path.read_text()) for path in sorted(folder.glob("results.rank*"))]


def saved_files(checkpoint: Path) -> dict[str, str]:
    """Checksums of the files with the tensors."""
    listed = json.loads((checkpoint / "checksums.json").read_text())
    return {name: entry["sha256"] for name, entry in listed.items() if name.endswith(".distcp")}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_and_gradients_do_not_change(layout: str, runs: tuple[Path, list[dict[str, Any]]]) -> None:
    for rank in runs[1]:
        (*expected, _), (*found, buckets) = rank[f"{layout}, False"], rank[f"{layout}, True"]
        assert {entry["batch"] for entry in expected if "batch" in entry} == {8, 16}
        if "small buckets" in layout:
            assert buckets["bucket_groups"] > 3
            expected, found = (
                [{key: value for key, value in entry.items() if key != "grad_norm"} for entry in entries]
                for entries in (expected, found)
            )
        assert found == expected


def test_rows_packed_into_one_go_through_a_pipeline(runs: tuple[Path, list[dict[str, Any]]]) -> None:
    for rank in runs[1]:
        expected, found = rank["PP2, DP2, True"], rank["packed"]
        assert len(found) == len(expected) > 8
        for entry, other in zip(found[:-1], expected[:-1], strict=True):
            assert entry.keys() == other.keys()
            if "grad_norm" in entry:
                assert [entry["grad_norm"], *entry["losses"]] == pytest.approx(
                    [other["grad_norm"], *other["losses"]], rel=1e-4
                )


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "small buckets" not in name])
def test_every_saved_byte_is_the_same(layout: str, runs: tuple[Path, list[dict[str, Any]]]) -> None:
    """Parameters, gradient moments and fp32 copies, after every second step."""
    plain, overlapped = (runs[0] / f"{layout}, {overlap}" / "checkpoints" for overlap in (False, True))
    steps = sorted(path.name for path in plain.iterdir())
    assert len(steps) == 3
    for step in steps:
        assert saved_files(overlapped / step) == saved_files(plain / step), step


def test_every_data_parallel_rank_writes_its_share(runs: tuple[Path, list[dict[str, Any]]]) -> None:
    """D18: four ranks hold the same model, and each writes a quarter of it and of the optimizer's states."""
    newest = sorted((runs[0] / "DP4, False" / "checkpoints").iterdir())[-1]
    shares = [sum(file.stat().st_size for file in newest.glob(f"__{rank}_*.distcp")) for rank in range(4)]
    assert max(shares) < 1.1 * sum(shares) / 4, shares
