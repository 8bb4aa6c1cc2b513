"""Which part of a response holds its answer."""

import pytest

from megatron_mimo.reward.code_block import last_code_block
from megatron_mimo.reward.final_answer import final_part


@pytest.mark.parametrize(
    ("response", "part"),
    [
        ("no thought", "no thought"),
        ("<think>draft 1</think>So 2", "So 2"),
        ("draft 1</think>So 2", "So 2"),  # the prompt has opened the thought
        ("<think>draft 1, truncated", ""),
        ("\n<think>a</think>b<think>c</think>d", "d"),
        ("<think>a</think>So 2. <think>or is it 3", "So 2. "),
        ("Tags such as `<think>` and `</think>` mark it. So 2", "Tags such as `<think>` and `</think>` mark it. So 2"),
        ("", ""),
    ],
)
def test_the_part_after_the_reasoning(response: str, part: str) -> None:
    assert final_part(response) == part


def test_a_draft_in_a_truncated_thought_is_no_program() -> None:
    draft = "<think>draft\n```python\nprint(0)\n```\n still thinking"
    assert last_code_block(final_part(draft)) is None
    assert last_code_block(final_part(f"{draft}</think>\n```python\nprint(1)\n```")) == "print(1)\n"
