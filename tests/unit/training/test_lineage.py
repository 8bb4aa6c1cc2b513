"""What weights keep of the run they started from."""

import pytest

from megatron_mimo.training.checkpoint_record import CheckpointRecord
from megatron_mimo.training.start import with_lineage
from support.records import record


@pytest.mark.parametrize(
    ("is_chat", "origin", "expected"),
    [
        (False, None, (False, None)),
        (True, None, (True, None)),
        (True, record(chat_trained=False), (True, None)),
        (False, record(chat_trained=True), (True, None)),  # MTP layers added to a chat model
        (False, record(license="mit"), (None, "mit")),  # imported
        (False, record(), (None, None)),  # a checkpoint of before this was recorded
    ],
)
def test_lineage(is_chat: bool, origin: CheckpointRecord | None, expected: tuple) -> None:
    trained = with_lineage(record(), is_chat, origin)
    assert (trained.chat_trained, trained.license) == expected
