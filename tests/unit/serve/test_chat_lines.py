"""The line editor with keys from a pipe: what is edited, recalled, emptied and ended."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from megatron_mimo.serve.chat_lines import EditedLines, open_history

LEFT, CTRL_C, CTRL_D, ENTER = "\x1b[D", "\x03", "\x04", "\r"
PASTE_START, PASTE_END = "\x1b[200~", "\x1b[201~"


@pytest.fixture
def typed() -> Iterator[Callable[[str], EditedLines]]:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):

        def lines(keys: str) -> EditedLines:
            pipe.send_text(keys)
            return EditedLines(InMemoryHistory())

        yield lines


def test_editing(typed) -> None:
    """The history is loaded while the editor waits for keys: `test_chat.py` recalls lines in a terminal."""
    lines = typed(f" fist{LEFT}{LEFT}r {ENTER}/quit{ENTER}")
    assert [lines.read(), lines.read()] == ["fir st", "/quit"]


def test_a_pasted_text_is_one_message(typed) -> None:
    assert typed(f"{PASTE_START}two\nlines{PASTE_END}{ENTER}").read() == "two\nlines"


def test_an_interrupt_empties_the_line_and_ends_on_an_empty_one(typed) -> None:
    lines = typed(f"not this{CTRL_C}this{ENTER}{CTRL_C}")
    assert lines.read() == "this"
    with pytest.raises(KeyboardInterrupt):
        lines.read()


def test_end_of_file_ends(typed) -> None:
    assert typed(CTRL_D).read() is None


def test_a_history_that_cannot_be_kept_is_said_and_no_reason_to_stop(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert isinstance(open_history(tmp_path / "file" / "chat_history"), InMemoryHistory)
    assert "the history is not kept" in capsys.readouterr().err
