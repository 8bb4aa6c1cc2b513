"""tools/setup_environment.sh on stand-ins for Python, pip, df and apt-get that write down how they were called."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NEEDED = ("tools/setup_environment.sh", "requirements/cpu.txt", "setup.py", "megatron_mimo/data/dedup/_minhash.c")
PROGRAMS = (
    *("bash", "dirname", "basename", "cat", "grep", "sed", "head", "awk", "rm", "mv", "cp", "mkdir", "sha256sum", "id"),
    *("flock",),
)
PYTHON = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in
    *sys.version_info*) echo {version} ;;
    "-c import ensurepip, venv") ;;
    "-m venv"*)
        folder=${{@: -1}}
        mkdir -p "$folder/bin"
        cp "$0" "$folder/bin/python"
        echo "#!$PWD/$folder/bin/python" > "$folder/bin/torchrun"
        echo "VIRTUAL_ENV=$PWD/$folder" > "$folder/bin/activate"
        echo "version = {version}" > "$folder/pyvenv.cfg" ;;
    *"install"*"uv=="*) exit 1 ;;
    *"config list"*) ;;
    *"install"*) [ -z "${{BROKEN_NETWORK:-}}" ] ;;
esac
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what the script reads; programs/ holds all that it finds to run."""
    for name in NEEDED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "programs").mkdir()
    for name in PROGRAMS:
        if found := shutil.which(name):
            (tmp_path / "programs" / name).symlink_to(found)
    write_program(tmp_path, "df", "#!/bin/sh\necho header\necho 'disk 1 1 50000 1% /'\n")
    write_program(tmp_path, "bwrap", "#!/bin/sh\n")
    return tmp_path


@pytest.fixture
def run(checkout: Path) -> Run:
    def call(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHON"} | variables
        environment |= {"PATH": str(checkout / "programs"), "CALLS": str(checkout / "calls")}
        command = [shutil.which("bash") or "bash", str(checkout / "tools/setup_environment.sh")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    return call


def write_program(checkout: Path, name: str, text: str) -> Path:
    path = checkout / "programs" / name
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def write_python(checkout: Path, name: str, version: str) -> Path:
    return write_program(checkout, name, PYTHON.format(version=version))


def working_environment(checkout: Path) -> Path:
    marker = checkout / ".venv" / "marker"
    marker.parent.mkdir()
    marker.write_text("works")
    return marker


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_environment_is_built_beside_and_put_in_place(checkout: Path, run: Run, version: str) -> None:
    python = write_python(checkout, "some-python", version)
    old = working_environment(checkout)
    done = run(PYTHON=str(python))
    assert done.returncode == 0, done.stderr
    assert f"with Python {version}" in done.stdout and "GB on disk" in done.stdout and "minutes" in done.stdout
    assert "1/3" in done.stdout and "3/3" in done.stdout
    assert not old.exists() and not list(checkout.glob(".venv.*"))
    assert (checkout / ".venv/bin/torchrun").read_text() == f"#!{checkout}/.venv/bin/python\n"
    assert (checkout / ".venv/bin/activate").read_text() == f"VIRTUAL_ENV={checkout}/.venv\n"
    again = run()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_failed_installation_leaves_the_old_environment(checkout: Path, run: Run) -> None:
    write_python(checkout, "python3.12", "3.12")
    old = working_environment(checkout)
    done = run(BROKEN_NETWORK="1")
    assert done.returncode != 0
    assert ".venv is as it was" in done.stderr
    assert old.read_text() == "works"
    assert [path.name for path in checkout.glob(".venv*")] == [".venv"]


def test_environment_that_a_killed_setup_had_moved_aside_is_found(checkout: Path, run: Run) -> None:
    working_environment(checkout)
    (checkout / ".venv").rename(checkout / ".venv.old")
    write_python(checkout, "python3.12", "3.12")
    assert run(BROKEN_NETWORK="1").returncode != 0
    assert (checkout / ".venv/marker").exists()


@pytest.mark.parametrize(("value", "version"), [("/nonexistent", ""), ("old-python", "3.9"), ("new-python", "3.14")])
def test_wrong_python_is_an_error_and_nothing_else_is_taken(checkout: Path, run: Run, value: str, version: str) -> None:
    write_python(checkout, "python3.11", "3.11")
    if version:
        value = str(write_python(checkout, value, version))
    old = working_environment(checkout)
    done = run(PYTHON=value)
    assert done.returncode == 2
    assert f"PYTHON={value}" in done.stderr and "3.11, 3.12 or 3.13" in done.stderr
    assert old.exists()


def test_wrong_python_is_an_error_beside_an_environment_that_is_up_to_date(checkout: Path, run: Run) -> None:
    write_python(checkout, "python3.11", "3.11")
    assert run().returncode == 0
    assert run(PYTHON="/nonexistent").returncode == 2
    other = run(PYTHON=str(write_python(checkout, "another", "3.13")))
    assert other.returncode == 0 and "with Python 3.13" in other.stdout, "the interpreter asked for, not the one there"


def test_no_fitting_python_is_explained(checkout: Path, run: Run) -> None:
    write_python(checkout, "python3", "3.14")
    done = run()
    assert done.returncode == 2
    assert "python3 here: 3.14" in done.stderr and "PYTHON=" in done.stderr


def test_full_disk_is_found_before_anything_is_installed(checkout: Path, run: Run) -> None:
    write_python(checkout, "python3.11", "3.11")
    write_program(checkout, "df", "#!/bin/sh\necho header\necho 'disk 1 1 900 1% /'\n")
    done = run()
    assert done.returncode == 2
    assert "900 MB free" in done.stderr
    assert "venv" not in (checkout / "calls").read_text().replace("import ensurepip, venv", "")


def test_apt_is_announced_before_it_runs(checkout: Path, run: Run) -> None:
    """Root without bubblewrap."""
    write_python(checkout, "python3.11", "3.11")
    (checkout / "programs/bwrap").unlink()
    write_program(checkout, "id", "#!/bin/sh\necho 0\n")
    write_program(checkout, "apt-get", "#!/bin/sh\necho 'apt-get runs' >&2\n")
    done = run()
    assert done.returncode == 0, done.stderr
    assert "installing bubblewrap with apt-get" in done.stdout
    assert "apt-get runs" in done.stderr


def test_gpu_check_builds_no_environment() -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")
    }

    def commands(*arguments: str) -> str:
        command = ["make", "--dry-run", "gpu-check", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    assert commands("PYTHON=python").split("\n")[0] == "python tools/gpu_check.py"
    assert "setup_environment.sh" not in commands("PYTHON=python")
    assert commands().split("\n")[0] == "python3 tools/gpu_check.py"
