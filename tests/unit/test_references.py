"""What the prose points to exists: files, sections, commands."""

import re
import subprocess
from pathlib import Path

import pytest

from megatron_mimo.cli.commands import COMMANDS, OLD_NAMES

ROOT = Path(__file__).parents[2]
PROSE = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("requirements/*.md"), *ROOT.glob("tests/**/*.md")]
)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
SECTION = re.compile(r"(docs/\w+\.md), ([A-Za-z][\w' -]*)")
COMMAND = re.compile(r"(?:^[ #]*|`)megatron-mimo ([a-z][a-z-]*)", re.MULTILINE)
"""At the start of a line, or as code in a sentence."""


def tracked() -> list[Path]:
    """Text files of the project, the pages that tests read as data left out."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() or pytest.skip("not a git checkout")
    endings = {".md", ".py", ".sh", ".yaml", ".toml", ".ngc", ".txt", ""}
    paths = [ROOT / name for name in names if not name.startswith(("tests/pages/", "tests/tagged_pages/"))]
    return [path for path in paths if path.suffix in endings and path.is_file()]


def headings(page: Path) -> list[str]:
    return [line.lstrip("#").strip() for line in page.read_text().splitlines() if re.match(r"#+ ", line)]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        goal = (page.parent / target).resolve() if target else page
        assert goal.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(goal), f"{page.name} links to {target}#{anchor}"


def test_pages_and_sections_that_are_named_exist() -> None:
    number = 0
    for path in tracked():
        text = path.read_text(errors="replace")
        for page in re.findall(r"\bdocs/\w+\.md\b", text):
            if path.name != Path(__file__).name:
                number += 1
                assert (ROOT / page).is_file(), f"{path} names {page}"
        for page, words in SECTION.findall(text):
            known = headings(ROOT / page)
            found = any(words.lower().startswith(heading.lower()) for heading in known)
            assert found, f"{path} names the section {words!r} of {page}; it has {known}"
    assert number > 10


def test_commands_that_are_named_exist() -> None:
    named = {(path, name) for path in tracked() for name in COMMAND.findall(path.read_text(errors="replace"))}
    assert len({name for _, name in named}) > 15
    wrong = [
        f"{path.relative_to(ROOT)}: megatron-mimo {name}" for path, name in named if name not in {*COMMANDS, *OLD_NAMES}
    ]
    assert not wrong, wrong


def test_scripts_and_recipes_that_are_named_exist() -> None:
    """In prose, recipes, scripts and messages."""
    pattern = re.compile(r"(?<![\w/.{}$-])((?:tools|benchmarks|examples)/[\w/.-]*\w\.(?:py|sh|yaml))\b")
    named = {(path, name) for path in tracked() for name in pattern.findall(path.read_text(errors="replace"))}
    assert len(named) > 50
    wrong = [f"{path.relative_to(ROOT)}: {name}" for path, name in named if not (ROOT / name).exists()]
    assert not wrong, wrong
