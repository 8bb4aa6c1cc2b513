"""What weights keep of the run they started from."""

from typing import Any

import pytest

from megatron_mimo.training.start import lineage


@pytest.mark.parametrize(
    ("is_chat", "origin", "expected"),
    [
        (False, None, {"chat_trained": False}),
        (True, None, {"chat_trained": True}),
        (True, {"chat_trained": False}, {"chat_trained": True}),
        (False, {"chat_trained": True}, {"chat_trained": True}),  # MTP layers added to a chat model
        (False, {"chat_trained": None, "license": "mit"}, {"chat_trained": None, "license": "mit"}),  # imported
        (False, {}, {"chat_trained": None}),  # a checkpoint of before this was recorded
    ],
)
def test_lineage(is_chat: bool, origin: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    assert lineage(is_chat, origin) == expected
