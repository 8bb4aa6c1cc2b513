"""Modules imported once per solution instead of once per test: children share them copy-on-write."""

import _sitebuiltins
import builtins

NAMES = """
abc array atexit base64 bisect calendar cmath collections copy ctypes dataclasses datetime decimal enum
fractions functools heapq io itertools json math numbers numpy operator os pprint queue random re secrets
select string struct sys textwrap threading time traceback typing warnings zlib statistics hashlib inspect
contextlib types
"""
MODULES = frozenset(NAMES.split())


def mentioned(source: str) -> list[str]:
    """Names of MODULES that stand in the source; too many do no harm, a missing one costs time alone."""
    if "import" not in source:
        return []
    words = set(source.replace(",", " ").replace(";", " ").replace(".", " ").split())
    return sorted(MODULES & words)


def import_modules(names: list[str]) -> None:
    for name in names:
        try:
            __import__(name)
        except ImportError:
            # The solution will say so itself if it really imports it.
            continue


def add_site_builtins() -> None:
    """`exit` and `quit`, which programs call although they belong to the module `site` (not run here: slow)."""
    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
