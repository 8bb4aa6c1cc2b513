"""Fixtures that several test folders share."""

from pathlib import Path

import hypothesis
import pytest

from support.tiny import make_tiny_data

# A busy machine is no failure.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data folder, read-only: tests that damage files take a copy."""
    return make_tiny_data(tmp_path_factory.mktemp("tiny"))
