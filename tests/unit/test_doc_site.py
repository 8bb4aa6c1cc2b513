"""The documentation site: every page has its place, and the generated tables hold every setting and command."""

import dataclasses
import importlib.util
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml

from megatron_mimo.cli.commands import COMMANDS
from megatron_mimo.config import PretrainConfig
from support.paths import ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site_pages() -> ModuleType:
    """The hook that mkdocs loads."""
    spec = importlib.util.spec_from_file_location("site_pages", DOCS / "site_pages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages_of(nav: Any) -> Iterator[str]:
    """The pages that a navigation tree names."""
    if isinstance(nav, str):
        yield nav
    for inner in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else []:
        yield from pages_of(inner)


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = list(pages_of(nav))
    assert sorted(named) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")), "mkdocs.yml: nav"


def test_the_tables_hold_every_setting_and_every_command(site_pages: ModuleType) -> None:
    keys = site_pages.on_page_markdown((DOCS / "keys.md").read_text(encoding="utf-8"))
    for field in dataclasses.fields(PretrainConfig):
        assert f"| `{field.name}` |" in keys
    assert "| `stages.*.learning_rate.*.kind` | required |" in keys
    assert re.search(r"\| `checkpoint\.keep_last` \| `2` \| Newest checkpoints kept", keys)
    commands = site_pages.on_page_markdown((DOCS / "commands.md").read_text(encoding="utf-8"))
    assert all(f"| `megatron-mimo {name}` |" in commands for name in COMMANDS)
    assert "<!-- generated" not in keys + commands
    for line in (keys + commands).splitlines():
        if line.startswith("| `"):
            cells = len(re.findall(r"(?<!\\)\|", line)) - 1
            assert cells in (2, 3), line
