"""A folder written for minutes: absent or complete, resumed after a kill, never overwritten."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.convert.destination import new_folder

SOURCE = {"model": [100, 1]}


def write(destination: Path, names: str, stop_after: str = "", source: dict | None = SOURCE) -> list[str]:
    """Write a file a letter, interrupted after `stop_after`; returns the letters that were written now."""
    written = []
    with new_folder(destination, source) as unfinished:
        for name in names:
            if unfinished.finished(name) is None:
                with unfinished.file(name, {"letter": name}) as path:
                    path.write_text(name * 10)
                written.append(name)
            if name == stop_after:
                (unfinished.folder / "half.tmp").write_text("half")
                raise KeyboardInterrupt
        (unfinished.folder / "config").write_text("small")
    return written


def test_a_folder_appears_complete(tmp_path: Path) -> None:
    assert write(tmp_path / "made" / "model", "abc") == ["a", "b", "c"]
    content = {path.name: path.read_text() for path in (tmp_path / "made" / "model").iterdir()}
    assert content == {name: name * 10 for name in "abc"} | {"config": "small"}
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["model"]


def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "model", "abc", stop_after="b")
    assert not (tmp_path / "model").exists()
    assert write(tmp_path / "model", "abc") == ["c"]
    assert sorted(os.listdir(tmp_path / "model")) == ["a", "b", "c", "config"]


@pytest.mark.parametrize("change", ["source", "size", "no source"])
def test_what_does_not_belong_is_written_again(tmp_path: Path, change: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "model", "abc", stop_after="b")
    if change == "size":
        os.truncate(tmp_path / ".model.partial" / "a", 3)
        assert write(tmp_path / "model", "abc") == ["a", "c"]
    else:
        source = {"model": [100, 2]} if change == "source" else None
        assert write(tmp_path / "model", "abc", source=source) == ["a", "b", "c"]
    assert (tmp_path / "model" / "a").read_text() == "a" * 10


def test_a_kill_leaves_finished_files_for_the_next_run(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from megatron_mimo.convert.destination import new_folder
        with new_folder(Path(sys.argv[1]), {"model": [100, 1]}) as unfinished:
            with unfinished.file("a", {}) as path:
                path.write_text("a" * 10)
            with unfinished.file("b", {}) as path:
                path.write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    process = subprocess.run([sys.executable, "-c", program, str(tmp_path / "model")])
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "model").exists()
    assert write(tmp_path / "model", "ab") == ["b"]


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model", SOURCE), pytest.raises(UserError, match="another conversion is writing"):
        write(tmp_path / "model", "a")
    assert (tmp_path / "model").is_dir()


@pytest.mark.parametrize("source", [None, SOURCE])
def test_a_failed_write_is_named_and_leaves_nothing(tmp_path: Path, source: dict | None) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "model", source) as unfinished:
            (unfinished.folder / "part").write_text("...")
            Path("/dev/full").write_text("x" * 100_000)

    with pytest.raises(UserError, match="No space left"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_named_before_the_first_byte(tmp_path: Path) -> None:
    message = r"no room for .*model: it needs 1000000000\.00 GB"
    with pytest.raises(UserError, match=message), new_folder(tmp_path / "model", SOURCE, needed_bytes=10**18):
        raise AssertionError("the block must not run")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_destination_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("model", "link"):
        with pytest.raises(UserError, match="exists and is not overwritten"), new_folder(tmp_path / name):
            raise AssertionError("the block must not run")
    assert sorted(os.listdir(tmp_path)) == ["link", "model"]
