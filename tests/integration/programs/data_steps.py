"""Steps for tests of the data pipeline: one that takes its time, one that kills its process."""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task


@dataclass(kw_only=True)
class Slow:
    """Takes some milliseconds a document, and drops every seventh."""

    name: ClassVar[str] = "slow"
    seconds: float = 0.002

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        for document in documents:
            time.sleep(self.seconds)
            if document.text.endswith("7"):
                task.drop(document, self.name, "seven")
            else:
                document.metadata["length"] = len(document.text)
                yield document


@dataclass(kw_only=True)
class Deadly:
    """A parser in C that some pages crash."""

    name: ClassVar[str] = "deadly"

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        for document in documents:
            if "poison" in document.text:
                os.kill(os.getpid(), signal.SIGSEGV)
            yield document


@dataclass(kw_only=True)
class Dies:
    """Ends its process before it has seen a document."""

    name: ClassVar[str] = "dies"

    def run(self, documents: Iterable[Document], task: Task) -> Iterator[Document]:
        os._exit(9)
