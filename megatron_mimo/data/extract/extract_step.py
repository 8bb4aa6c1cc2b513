"""Step `extract`: raw pages -> clean text, with limits that hold for any input.

What is guaranteed for a page: it is at most `max_bytes` long (longer ones are dropped unread); its tree is at most 200
deep and every pass over it is linear; and once `timeout_seconds` of processor time are spent, the work on it is broken
off at the next Python instruction. Parsing is one call into libxml2 that cannot be broken off, so the limit can be
passed by the time that takes: well under a second for 10 MB. The limit needs the main thread (signals go there);
elsewhere the size and depth limits alone hold.
"""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import ClassVar

from megatron_mimo.config import ConfigError
from megatron_mimo.data.document import Document
from megatron_mimo.data.extract.choose import FAVORS, Favor
from megatron_mimo.data.extract.page import Extraction, Labeller, extract
from megatron_mimo.data.extract.peers import Extractor, peer
from megatron_mimo.data.pipeline.step import Task


class PageTimeout(Exception):
    """The time for one page is spent."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `PageTimeout` inside the block after `seconds` of processor time; without effect off the main thread.

    Processor time, not the clock's: a page that passes on an idle machine passes on a busy one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(signum: int, frame: FrameType | None) -> None:
        raise PageTimeout

    previous = signal.signal(signal.SIGVTALRM, expire)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


@dataclass(kw_only=True)
class Extract:
    """Turn documents that hold HTML into documents that hold Markdown with TeX; others pass unchanged."""

    name: ClassVar[str] = "extract"

    timeout_seconds: float = 1.0
    """Processor time for one page; a page that needs more is dropped as `timeout`."""
    max_bytes: int = 10_000_000
    """Pages larger than this (in UTF-8) are dropped as `too large`, before they are parsed."""
    favor: Favor = "balanced"
    """`precision` leaves less of the frame in, `recall` loses less matter."""
    comments: bool | None = None
    """Whether what readers wrote below an article is kept, as `## Comment` sections; null: under a short text alone."""
    headline: bool | None = True
    """Whether an article's title stands as a heading above its text; null: where it is not declared an article."""
    fallback: str | None = None
    """An extractor of `peers.PEERS` for pages on which ours finds nothing, such as `trafilatura`."""
    extractor: str | None = None
    """An extractor of `peers.PEERS` for all pages, in place of ours."""
    labeller: str | None = None
    """Folder of a language model that labels blocks (`labeller_training`), as a second judge; raise the time limit."""
    labeller_device: str = "cpu"

    def __post_init__(self) -> None:
        if self.favor not in FAVORS:
            raise ConfigError("favor", self.favor, f"one of {', '.join(FAVORS)}")
        self._fallback: Extractor | None = peer(self.fallback, "fallback") if self.fallback else None
        self._peer: Extractor | None = peer(self.extractor, "extractor") if self.extractor else None
        self._labeller: Labeller | None = None
        if not self.timeout_seconds > 0:
            raise ConfigError("timeout_seconds", self.timeout_seconds, "give a number of seconds above 0")
        if self.max_bytes < 1:
            raise ConfigError("max_bytes", self.max_bytes, "give a number of bytes above 0")

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        """Yield each page's clean text; drops are `empty`, `timeout`, `too large` and `fault`."""
        if self.labeller:
            from megatron_mimo.data.extract.block_labeller import BlockLabeller

            self._labeller = BlockLabeller.load(Path(self.labeller)).to(self.labeller_device)
        for document in documents:
            if document.metadata.get("media_type") not in (None, "", "text/html", "application/xhtml+xml"):
                yield document
                continue
            extraction = self._extract(document, task)
            if extraction is None:
                continue
            text = extraction.text
            task.count(f"{self.name}/characters", len(text))
            document.metadata["media_type"] = "text/markdown"
            document.text = text
            task.sample(f"{self.name}/kept", document)
            yield document

    def _extract(self, document: Document, task: Task) -> Extraction | None:
        """The page, or None when it was dropped."""
        if len(document.text) > self.max_bytes or len(document.text.encode("utf-8", "replace")) > self.max_bytes:
            task.drop(document, self.name, "too large")
            return None
        try:
            with time_limit(self.timeout_seconds):
                found = self._read(document)
                if not found.text and self._fallback is not None:
                    found = replace(found, text=self._fallback(document.text, document.url), kind="page")
                    task.count(f"{self.name}/fallback", bool(found.text))
        except PageTimeout:
            task.drop(document, self.name, "timeout")
            return None
        except Exception as error:  # a page must not end the run: noted with its place, and counted
            task.fault(self.name, document.id, error)
            task.drop(document, self.name, "fault")
            return None
        if not found.text:
            task.drop(document, self.name, "empty")
            return None
        return found

    def _read(self, document: Document) -> Extraction:
        if self._peer is not None:
            return Extraction(self._peer(document.text, document.url))
        return extract(
            document.text,
            document.url,
            favor=self.favor,
            comments=self.comments,
            headline=self.headline,
            labeller=self._labeller,
        )
