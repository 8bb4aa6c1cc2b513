"""What mkdocs does besides building the pages: tables of settings, commands and claims, and a place for every page.

A page holds `<!-- generated: NAME -->`; mkdocs calls `on_page_markdown` for every page, which puts the tables there.
They come from the program's own dataclasses and tables, so nothing is written twice.
"""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from megatron_mimo.claims.statements import CLAIMS
from megatron_mimo.cli.commands import COMMANDS, GROUPS
from megatron_mimo.config.describe import Setting, settings_of

DOCS = Path(__file__).parent
MARK = re.compile(r"<!-- generated: (\w+) -->")
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Guides that mkdocs.yml does not name yet stand at the end of its guides; mkdocs calls this hook by name."""
    named = set(pages_of(config["nav"]))
    guides = next(entry["Guides"] for entry in config["nav"] if "Guides" in entry)
    guides += sorted(path.name for path in DOCS.glob("*.md") if path.name not in named)
    return config


def pages_of(nav: Any) -> list[str]:
    """The pages that a navigation tree names."""
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [page for entry in inner for page in pages_of(entry)]


def on_page_markdown(markdown: str, page: Any = None, **_: Any) -> str:
    """The page with its generated parts, links out of the documentation as text; mkdocs calls this hook by name."""
    folder = (DOCS / page.file.src_path).parent if page else DOCS
    markdown = LINK.sub(lambda link: link[0] if is_inside(folder / link[2]) else link[1], markdown)
    return MARK.sub(lambda mark: PARTS[mark[1]](), markdown)


def is_inside(target: Path) -> bool:
    """Whether a file lies in the documentation, so that the site has it."""
    return target.resolve().is_relative_to(DOCS)


def settings() -> str:
    """A section for each configuration class, named by the commands that read it."""
    readers: dict[str, list[str]] = {}
    for name, command in COMMANDS.items():
        if command.config:
            readers.setdefault(command.config, []).append(name)
    return "\n".join(section(place, commands) for place, commands in readers.items())


def section(place: str, commands: list[str]) -> str:
    """The table of one configuration class, `module:Class`."""
    module, _, name = place.partition(":")
    config_class = getattr(importlib.import_module(module), name)
    title = ", ".join(f"`megatron-mimo {command}`" for command in commands)
    head = f"## {name}\n\nRead by {title}.\n\n| key | default | what it is |\n|---|---|---|\n"
    return head + "".join(row(setting) for setting in settings_of(config_class)) + "\n"


def row(setting: Setting) -> str:
    """One line of a table; a section's own line has no default."""
    default = "" if setting.is_section and setting.default is None else code(setting.default)
    notes = [setting.text, setting.unit and f"Unit: {setting.unit}.", f"Value: {setting.kind}."]
    notes.append(setting.section and f"Report, section {setting.section}.")
    return f"| `{setting.key}` | {default} | {escaped(' '.join(note for note in notes if note))} |\n"


def code(default: str | None) -> str:
    """A default as code."""
    return "required" if default is None else f"`{default.replace('|', chr(92) + '|')}`"


def escaped(text: str) -> str:
    """Text that neither ends a table's cell nor starts a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def commands() -> str:
    """A table for each group of commands."""
    parts = []
    for title, group in GROUPS.items():
        rows = "".join(f"| `megatron-mimo {name}` | {escaped(command.text)} |\n" for name, command in group.items())
        parts.append(f"## {title}\n\n| command | what it does |\n|---|---|\n{rows}")
    return "\n".join(parts)


def claims() -> str:
    """A table of the report's claims."""
    head = "| claim | report | what it says | shown here | measured by |\n|---|---|---|---|---|\n"
    rows = [
        f"| {number} | {claim.section} | {claim.text} | {claim.shown} | {'; '.join(map(_as_code, claim.commands))} |\n"
        for number, claim in enumerate(CLAIMS, 1)
    ]
    return head + "".join(rows)


def _as_code(command: str) -> str:
    return f"`{command}`"


PARTS = {"settings": settings, "commands": commands, "claims": claims}
