"""The functions that the shells get, in a real bash."""

import subprocess
import sys
from pathlib import Path

import pytest

from megatron_mimo.cli.completion import SCRIPTS
from support.paths import ROOT, environment


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    program = folder / "megatron-mimo"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m megatron_mimo "$@"\n')
    program.chmod(0o755)
    return folder


def complete(programs: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    typed = " ".join(f"'{word}'" for word in ("megatron-mimo", *words))
    script = f"""
        eval "$(megatron-mimo completion bash)"
        complete -p megatron-mimo > /dev/null || exit 3
        COMP_WORDS=({typed}); COMP_CWORD={len(words)}
        compopt() {{ :; }}   # it wants a line that is being edited
        _megatron_mimo
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    variables = environment()
    variables["PATH"] = f"{programs}:{variables['PATH']}"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_offers_commands_recipes_and_keys(programs: Path) -> None:
    assert complete(programs, "pret") == ["pretrain"]
    assert "examples/nano/pretrain.yaml" in complete(programs, "pretrain", "examples/nano/pre")
    assert complete(programs, "pretrain", "examples/nano/pretrain.yaml", "optimizer.adam") == [
        "optimizer.adam_beta1=",
        "optimizer.adam_beta2=",
        "optimizer.adam_eps=",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_asks_the_same_command(shell: str) -> None:
    assert "megatron-mimo completion --words" in SCRIPTS[shell]
