"""The environment report against what the machine, the package metadata and git say themselves."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from megatron_mimo.platform.environment import (
    apex_version,
    environment_report,
    environment_text,
    git_revision,
    package_version,
)


def test_report_is_json_and_fits_a_screen():
    report = environment_report({"attention": "torch SDPA: Transformer Engine is not installed"})
    assert json.loads(json.dumps(report)) == report
    text = environment_text(report)
    assert len(text.splitlines()) <= 24
    for expected in (torch.__version__, importlib.metadata.version("megatron-core"), "torch SDPA: Transformer Engine"):
        assert expected in text


def test_report_leaves_megatron_core_unimported():
    program = (
        "import sys; from megatron_mimo.platform.environment import environment_report; environment_report();"
        "assert not [m for m in sys.modules if m.startswith('megatron.core')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(("switch", "expected"), [("0", "emulated"), ("1", "in hardware")])
def test_report_says_how_bf16_is_computed(switch, expected, monkeypatch):
    monkeypatch.setenv("MEGATRON_MIMO_CPU_BF16", switch)
    assert environment_report()["device"]["bf16"].startswith(expected)


def test_missing_package_says_so():
    assert package_version("no-such-distribution-of-anyone") == "not installed"
    assert package_version("no-such-distribution-of-anyone", "torch") == importlib.metadata.version("torch")


def _install(folder: Path, monkeypatch, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_apex_from_pypi_is_told_from_nvidias(tmp_path, monkeypatch):
    _install(tmp_path, monkeypatch, "apex", "0.9.10")
    assert "not NVIDIA's" in apex_version()
    (tmp_path / "amp_C.py").write_text("")
    assert apex_version() == "0.9.10 (NVIDIA)"


def test_git_revision_follows_the_checkout(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert git_revision(tmp_path) == "not a git checkout"
    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert git_revision(tmp_path) == commit[:12]
    (tmp_path / "file").write_text("two")
    assert git_revision(tmp_path) == f"{commit[:12]}-dirty"
    (tmp_path / "inside").mkdir()
    assert git_revision(tmp_path / "inside") == "not a git checkout"
