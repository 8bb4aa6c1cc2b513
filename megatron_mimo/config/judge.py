"""Settings of the judge: how many programs at a time, with which interpreter and compiler."""

import os
import sys
from dataclasses import dataclass

from megatron_mimo.config.errors import ConfigError, require_at_least


@dataclass(kw_only=True)
class JudgeConfig:
    """One machine's judge."""

    num_slots: int = 0
    """Programs judged at the same time; 0: one per processor core of this process."""
    python: str = ""
    """Interpreter that runs Python solutions; empty: the one that runs this program. A virtual environment's stands for
    its base interpreter."""
    python_packages: tuple[str, ...] = ()
    """Folders with packages that solutions may import (a site-packages); mounted read-only."""
    compiler: str = "g++"
    compiler_arguments: tuple[str, ...] = ("-std=c++20", "-O2", "-static", "-pipe")
    bubblewrap: str = "bwrap"
    max_queue: int = 1024
    """Solutions that may wait for a slot; the server answers 429 beyond it."""
    binary_cache_bytes: int = 256 << 20
    """Compiled C++ programs kept in memory."""
    max_attempts: int = 2
    """Sandboxes tried for a test when the sandbox itself fails, before the verdict `judge_fault`."""

    def __post_init__(self) -> None:
        require_at_least(0, "judge", num_slots=self.num_slots, binary_cache_bytes=self.binary_cache_bytes)
        require_at_least(1, "judge", max_queue=self.max_queue, max_attempts=self.max_attempts)
        for folder in self.python_packages:
            if not os.path.isdir(folder):
                raise ConfigError("judge.python_packages", folder, "no such folder")

    @property
    def interpreter(self) -> str:
        """Chosen when it is needed: a configuration that is written down holds no path of this machine."""
        return self.python or sys.executable

    @property
    def slots(self) -> int:
        return self.num_slots or len(os.sched_getaffinity(0))
