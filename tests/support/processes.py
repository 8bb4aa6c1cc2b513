"""Whether a process has ended."""

import psutil


def is_alive(pid: int) -> bool:
    """Zombies, whose parent has not looked yet or, in a container, never does, are not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
