"""Keep the page cache for others: a conversion reads and writes every byte once, and needs none of them again.

Its pages then serve it over and over, where a copy through the whole memory would claim new ones to the end; and a
comparison afterwards reads what is on the disk, not what is still in memory.
"""

import os


def forget(descriptor: int, start: int = 0, length: int = 0) -> None:
    """Drop the clean cached pages of a part of an open file; length 0: to its end."""
    os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def force_to_disk(path: str | os.PathLike) -> None:
    """Return when the file or folder is on the disk, and drop its cached pages."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        forget(descriptor)
    finally:
        os.close(descriptor)
