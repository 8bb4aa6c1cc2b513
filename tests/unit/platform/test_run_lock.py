"""The lock of a run folder: who is refused, who takes over, and that only one of many gets it."""

import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.platform import run_lock as module
from megatron_mimo.platform.run_lock import LOCK_FILE, Holder, process_start, run_lock


def left_behind(folder: Path, **changes: Any) -> Holder:
    """A lock file of a process that did not release it; by default one that runs: pytest's parent."""
    folder.mkdir(exist_ok=True)
    parent = os.getppid()
    holder = dataclasses.replace(Holder.here(), process_id=parent, process_start=process_start(parent))
    holder = dataclasses.replace(holder, **changes)
    (folder / LOCK_FILE).write_text(json.dumps(dataclasses.asdict(holder)))
    return holder


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    holder = left_behind(tmp_path)
    with pytest.raises(UserError) as refused, run_lock(tmp_path):
        pass
    assert f"process {holder.process_id} on {holder.host}" in str(refused.value)
    assert holder.since in str(refused.value)
    assert "\n" not in str(refused.value)
    assert json.loads((tmp_path / LOCK_FILE).read_text())["process_id"] == holder.process_id


@pytest.mark.parametrize("stale", ["process gone", "number used again", "zombie"])
def test_the_lock_of_a_crashed_run_is_taken_over(stale: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(ended.pid)
    ended.kill()
    if stale != "zombie":
        ended.wait()
    else:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    changes = {"process_id": ended.pid, "process_start": start}
    if stale == "number used again":
        changes = {"process_id": os.getppid(), "process_start": start}
    left_behind(tmp_path, **changes)
    with run_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process_id"] == os.getpid()
    assert not (tmp_path / LOCK_FILE).exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "taking over" in lines[0] and str(changes["process_id"]) in lines[0]
    ended.wait()


def test_another_host_is_refused_with_the_way_out(tmp_path: Path) -> None:
    left_behind(tmp_path, host="elsewhere", process_start="gone 1")
    with pytest.raises(UserError, match="elsewhere") as refused, run_lock(tmp_path):
        pass
    assert f"remove {tmp_path / LOCK_FILE}" in str(refused.value)


def test_a_requeued_job_starts_on_another_host_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    left_behind(tmp_path, host="elsewhere", process_start="gone 1", job="Slurm job 7", attempt=0)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    # Two steps of one job that is running are two runs.
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    with pytest.raises(UserError), run_lock(tmp_path):
        pass
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with run_lock(tmp_path):
        pass
    assert "Slurm job 7 was started again" in capsys.readouterr().err


def test_a_torn_lock_file_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text('{"host": "a", "proc')
    with run_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process_id"] == os.getpid()


def test_a_folder_that_a_refused_run_made_goes_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError), run_lock(tmp_path / "a" / "run"):
        raise ValueError
    assert not (tmp_path / "a" / "run").exists()
    with run_lock(tmp_path / "kept"):
        (tmp_path / "kept" / "file").touch()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another output_dir"), run_lock(tmp_path / "file"):
        pass


def test_a_forked_child_does_not_release_it(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        child = os.fork()
        if child == 0:
            module._release(tmp_path / LOCK_FILE, Holder.here())
            os._exit(0)
        os.waitpid(child, 0)
        assert (tmp_path / LOCK_FILE).exists()


def compete(folder: Path, start: Any, inside: Any, answers: Any) -> None:
    start.wait()
    try:
        with run_lock(folder):
            answers.put("held")
            inside.wait()
    except UserError:
        answers.put("refused")


def test_one_of_many_takes_a_stale_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        left_behind(tmp_path, process_start="gone 1")
        start, inside, answers = context.Barrier(6), context.Event(), context.Queue()
        starts = [context.Process(target=compete, args=(tmp_path, start, inside, answers)) for _ in range(6)]
        for process in starts:
            process.start()
        found = sorted(answers.get(timeout=60) for _ in starts)
        inside.set()
        for process in starts:
            process.join()
        assert found == ["held"] + 5 * ["refused"]
