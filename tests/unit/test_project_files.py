"""Files about the project agree with it: version, citation, changes, templates, hooks, the README's length."""

import re

import pytest
import yaml

from megatron_mimo import __version__
from support.paths import ROOT


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version_everywhere() -> None:
    assert yaml.safe_load(text_of("CITATION.cff"))["version"] == __version__
    newest = re.search(r"^## (\S+) - (\d{4}-\d\d-\d\d)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert newest and newest[1] == __version__
    assert str(yaml.safe_load(text_of("CITATION.cff"))["date-released"]) == newest[2]


def test_changes_are_in_order_and_complete() -> None:
    """Newest first, each version once, only the usual kinds of changes."""
    changes = text_of("CHANGELOG.md")
    versions = [
        tuple(map(int, found.split("."))) for found in re.findall(r"^## (\d+\.\d+\.\d+)", changes, re.MULTILINE)
    ]
    assert versions == sorted(set(versions), reverse=True)
    assert set(re.findall(r"^### (.+)$", changes, re.MULTILINE)) <= {"Added", "Changed", "Fixed", "Removed", "Security"}


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_readme_is_short_and_begins_with_the_name(name: str) -> None:
    lines = text_of(name).splitlines()
    assert len(lines) <= 120
    assert "Xiaomi" in lines[0] or "小米" in lines[0]
    assert "NVIDIA" in lines[0] and "MIMO" in lines[0]
    first_screen = "\n".join(lines[:30])
    assert "quickstart.sh" in first_screen, "how to start is on the first screen"


def test_issue_templates_have_the_fields_that_the_host_reads() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        template = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name == "config.yml":
            continue
        assert {"name", "description", "body"} <= template.keys()
        named = [part["id"] for part in template["body"] if part["type"] != "markdown"]
        assert named and len(set(named)) == len(named)


def test_hooks_are_programs_of_the_environment() -> None:
    """Before a commit the same programs run as in `make lint`, from the same place."""
    hooks = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    makefile = text_of("Makefile")
    for hook in hooks:
        program = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert f"$(BIN)/{program}" in makefile
        for file in re.findall(r"\S+\.py", hook["entry"]):
            assert (ROOT / file).is_file()


def test_every_package_that_is_installed_with_the_project_has_a_notice() -> None:
    setup = text_of("setup.py")
    core = re.findall(r'"([a-z][\w-]*)', re.findall(r"^CORE = \[(.*?)^\]", setup, re.MULTILINE | re.DOTALL)[0])
    assert len(core) > 20
    notices = text_of("THIRD_PARTY.md").lower()
    assert [name for name in core if not re.search(rf"(?<![\w-]){name}(?![\w-])", notices)] == []
