"""Which block of a response is its program."""

import pytest

from megatron_mimo.reward.code_block import last_code_block

PROGRAM = "```python\nprint(1)\n```"


@pytest.mark.parametrize(
    "response",
    [
        PROGRAM,
        f"Use ``` fences.\n{PROGRAM}",
        f"{PROGRAM}\nExample output:\n```\n1\n```",
        f"```\nprint(0)\n```\n{PROGRAM}\nIt prints\n```text\n1\n```",
        f"{PROGRAM}\nCompile with\n```bash\npython a.py\n```",
        "~~~python\nprint(1)\n~~~",
        "````python\nprint(1)\n````",
        "The code: ```python\nprint(1)\n```",
        "```python\nprint(1)```",
        "1. First\n   ```py\nprint(1)\n   ```",
        '```Python title="a.py"\r\nprint(1)\n```',
        "```\nprint(1)\n```",
        "``` python\nprint(1)\n```",
        "```{.python}\nprint(1)\n```",
        f"{PROGRAM}\n```python\ncut off",
    ],
)
def test_the_program(response: str) -> None:
    assert (last_code_block(response) or "").strip() == "print(1)"


def test_lines_lose_the_indentation_of_their_fence() -> None:
    """In a list; lines that have less of it keep what they have."""
    text = "1. So\n   ```python\n   if x:\n       print(1)\n\n  y\n   ```"
    assert last_code_block(text) == "if x:\n    print(1)\n\ny\n"
    assert last_code_block("  ~~~\n    x = 1\n y\n  ~~~") == "  x = 1\ny\n"


def test_a_fence_of_the_other_kind_is_content() -> None:
    assert last_code_block("~~~python\n'''\n```\nx\n```\n'''\n~~~") == "'''\n```\nx\n```\n'''\n"
    assert last_code_block("````\n```\nx\n```\n````") == "```\nx\n```\n"


def test_languages() -> None:
    both = "```cpp\nint x;\n```\n```python\nx\n```"
    assert last_code_block(both, "cpp") == "int x;\n" and last_code_block(both) == "x\n"
    assert last_code_block("```rust\nx\n```") == "x\n"
    assert last_code_block("no code, ``` or so") is None
