"""Fixtures that several test folders share."""

import signal
from pathlib import Path

import hypothesis
import pytest

from support.tiny import make_tiny_data

pytest_plugins = ["support.costs"]

# A shell starts programs in the background with SIGINT ignored, and those started from here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure, and neither is a new example of an old fault: the examples are the same every time.
hypothesis.settings.register_profile("no_deadline", deadline=None, derandomize=True)
hypothesis.settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data folder, read-only: tests that damage files take a copy."""
    return make_tiny_data(tmp_path_factory.mktemp("tiny"))
