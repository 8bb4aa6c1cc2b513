"""Fixtures that several test folders share."""

from pathlib import Path

import pytest

from support.tiny import make_tiny_data


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data folder, read-only: tests that damage files take a copy."""
    return make_tiny_data(tmp_path_factory.mktemp("tiny"))
