"""The documentation site: every page has its place, and the generated tables hold every setting and command."""

import dataclasses
import importlib.util
import re
from types import ModuleType

import pytest
import yaml

from megatron_mimo.claims.statements import CLAIMS
from megatron_mimo.cli.claims import LINK
from megatron_mimo.cli.commands import COMMANDS
from megatron_mimo.config import PretrainConfig
from support.doc_names import missing_names, missing_paths, wrong_commands
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


def test_every_page_is_once_in_the_navigation(site_pages: ModuleType) -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = site_pages.pages_of(site_pages.on_config(config)["nav"])
    assert sorted(named) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")), "mkdocs.yml: nav"


def test_links_out_of_the_documentation_are_text_on_the_site(site_pages: ModuleType) -> None:
    text = "[plan](plan.md), [code](../setup.py), [part](rl.md#problems), [out](https://example.org), [here](#top)"
    shown = "[plan](plan.md), code, [part](rl.md#problems), [out](https://example.org), [here](#top)"
    assert site_pages.on_page_markdown(text) == shown


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


def test_the_claims_name_what_exists(site_pages: ModuleType) -> None:
    page = site_pages.on_page_markdown((DOCS / "claims.md").read_text(encoding="utf-8"))
    listed = page[page.index("## All claims") :]
    rows = [line for line in listed.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == len(CLAIMS)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert not [*missing_paths(page), *missing_names(page), *wrong_commands(page)]
    links = [target for _, target in LINK.findall(" ".join(claim.shown for claim in CLAIMS))]
    assert links and all((DOCS / target.partition("#")[0]).is_file() for target in links)
