"""What the tests of installing share."""

import runpy
from typing import Any

import pytest
import setuptools

from support.paths import ROOT


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """What setup.py gives to setuptools."""
    patch, given = pytest.MonkeyPatch(), {}
    patch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path(str(ROOT / "setup.py"))
    patch.undo()
    return given
