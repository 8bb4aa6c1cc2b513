"""How far a conversion is and when it ends, on one line of a terminal or a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

Progress = Callable[[int, int, str], None]
"""Called with the bytes done, the bytes in all, and the name of the tensor that was done last."""

LOG_INTERVAL_SECONDS = 10.0
TERMINAL_INTERVAL_SECONDS = 0.1


def no_progress(done_bytes: int, total_bytes: int, name: str) -> None:
    """Progress that prints nothing."""


class ProgressLine:
    """A Progress that writes to standard error, and remembers how many tensors it saw."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.tensors = 0
        self._first_bytes: int | None = None
        self._started = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __call__(self, done_bytes: int, total_bytes: int, name: str) -> None:
        """What an earlier run had already done counts as done, but not for the rate."""
        self.tensors += 1
        now = time.monotonic()
        if self._first_bytes is None:
            self._first_bytes, self._started = done_bytes, now
        interval = TERMINAL_INTERVAL_SECONDS if self._terminal else LOG_INTERVAL_SECONDS
        if now - self._shown < interval:
            return
        self._shown = now
        rate = (done_bytes - self._first_bytes) / max(now - self._started, 1e-9)
        text = progress_text(self.title, done_bytes, total_bytes, rate) + f"  {name}"
        print(f"\r{text}\033[K" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr)

    def close(self) -> None:
        """Clear the terminal's line."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr)


def progress_text(title: str, done_bytes: int, total_bytes: int, bytes_per_second: float) -> str:
    left = f"{(total_bytes - done_bytes) / bytes_per_second:.0f} s left" if bytes_per_second > 0 else "..."
    share = done_bytes / total_bytes if total_bytes else 1
    size = f"{done_bytes / 1e9:.2f}/{total_bytes / 1e9:.2f} GB"
    return f"{title} {size} {share:.0%} {bytes_per_second / 1e6:.0f} MB/s, {left}"


def counted(
    tensors: Iterable[tuple[str, Tensor]], progress: Progress, done_bytes: int, total_bytes: int
) -> Iterator[tuple[str, Tensor]]:
    """Hand every tensor on and report it once it is consumed; starts at `done_bytes`."""
    for name, tensor in tensors:
        yield name, tensor
        done_bytes += tensor.nbytes
        progress(done_bytes, total_bytes, name)
