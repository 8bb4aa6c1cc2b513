"""Templates and numbers -> a folder of recipes."""

import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from megatron_mimo.config.errors import UserError

TEMPLATES = Path(__file__).parent
SIZES = ("nano", "150m", "400m", "1b", "7b")
NUMBERS = "sizes.yaml"
FP8 = "pretrain_fp8.yaml"
"""Not of size nano, which is for CPUs."""
NANO_DATA = "nano_data.yaml"
"""The data of size nano is what every Python installation carries; that of other sizes is the user's own."""


def write_recipes(size: str, folder: Path) -> Iterator[Path]:
    """Write the files of a size; yields their paths. Raises UserError where the folder holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and may hold files of yours: name another folder")
    for name, text in recipes(size).items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; name another folder") from error
        yield path


def recipes(size: str) -> dict[str, str]:
    """Name of each file -> its text."""
    values = numbers(size)
    found = {}
    for path in sorted([*TEMPLATES.glob("*.yaml"), *TEMPLATES.glob("*/*.yaml"), TEMPLATES / "README.md"]):
        name = str(path.relative_to(TEMPLATES))
        if name not in (NUMBERS, NANO_DATA) and (size, name) != ("nano", FP8):
            source = TEMPLATES / NANO_DATA if (size, name) == ("nano", "data.yaml") else path
            found[name] = string.Template(source.read_text(encoding="utf-8")).substitute(values)
    return found


def numbers(size: str) -> dict[str, str]:
    """The values of a size as its file spells them."""
    values = {key: "null" if value is None else str(value) for key, value in _table()[size].items()}
    return values | {"size": size, "name": values["title"].lower()}


@cache
def _table() -> dict[str, dict[str, Any]]:
    # As texts: 17.784e12 and 1_200_000 are to be written as they are read.
    return yaml.load((TEMPLATES / NUMBERS).read_text(encoding="utf-8"), _Texts)


class _Texts(yaml.SafeLoader):
    """Leaves every scalar the text that it is, but for null."""


_Texts.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
