"""What tests of training share."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def group() -> Iterator[None]:
    """Process groups of one rank, for a model in this process."""
    from megatron_mimo.training.probe import one_process

    with one_process():
        yield
