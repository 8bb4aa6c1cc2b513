"""Fixtures that several test folders share."""

import os
import re
import signal
from pathlib import Path

import hypothesis
import pytest

from support.tiny import make_tiny_data

pytest_plugins = ["support.costs", "support.order", "support.warm_vllm"]

# A shell starts programs in the background with SIGINT ignored, nohup with SIGHUP, and those started from here would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Ray starts a Python process for every CPU at once; actors with an environment of their own use none of them.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")

# A busy machine is no failure, and neither is a new example of an old fault: the examples are the same every time.
hypothesis.settings.register_profile("no_deadline", deadline=None, derandomize=True)
hypothesis.settings.load_profile("no_deadline")

SLOW_FILE = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m "not slow"` leaves files out whose every test is slow: importing their libraries takes longer than the tests
    that are left."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return SLOW_FILE.search(collection_path.read_text()) is not None or None


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data folder, read-only: tests that damage files take a copy."""
    return make_tiny_data(tmp_path_factory.mktemp("tiny"))
