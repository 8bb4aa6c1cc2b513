"""Lines of the user: edited, with a history, in a terminal; one after another from anything else."""

import os
import sys
from pathlib import Path
from typing import Protocol, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

MARK = "> "


class Lines(Protocol):
    """Where lines come from."""

    def read(self) -> str | None:
        """The next line, stripped; None at the end. Raises KeyboardInterrupt for Ctrl-C on an empty line."""
        ...


class PlainLines:
    """Lines of a file or pipe."""

    def __init__(self, source: TextIO, sink: TextIO) -> None:
        self._source, self._sink = source, sink

    def read(self) -> str | None:
        self._sink.write(MARK)
        self._sink.flush()
        line = self._source.readline()
        return line.strip() if line else None


class EditedLines:
    """Lines of a terminal: arrow keys, search with Ctrl-R, a pasted text of several lines as one message.

    Ctrl-C empties the line, as a shell does; Ctrl-D and Ctrl-C on an empty line end.
    """

    def __init__(self, history: History) -> None:
        self._session: PromptSession[str] = PromptSession(MARK, history=history, key_bindings=_bindings())

    def read(self) -> str | None:
        try:
            return self._session.prompt().strip()
        except EOFError:
            return None


def open_lines() -> Lines:
    """An editor where input and output are a terminal."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        return EditedLines(open_history(history_path()))
    return PlainLines(sys.stdin, sys.stdout)


def open_history(path: Path) -> History:
    """What was typed before, readable by its owner alone; says so where it cannot be kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("ab"):
            return FileHistory(str(path))
    except OSError as error:
        print(f"the history is not kept: {path} cannot be written ({error.strerror})", file=sys.stderr)
        return InMemoryHistory()


def history_path() -> Path:
    """Where the XDG convention keeps a program's state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "megatron-mimo" / "chat_history"


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("c-c")
    def interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.text = ""
        else:
            event.app.exit(exception=KeyboardInterrupt())

    return bindings
