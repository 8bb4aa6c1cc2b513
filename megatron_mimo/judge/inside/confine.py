"""Giving up rights: the sandbox's limits, and the last steps of a child before it becomes a judged program."""

import _ctypes
import posix
import resource
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
HEADROOM_BYTES = 512 << 20
"""Address space beyond the memory limit: libraries, thread stacks and other things mapped but never touched."""

_prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # pyright: ignore[reportArgumentType]


def limit_all(limits: dict) -> None:
    """Limits of the supervisor itself, which every child inherits and none can raise."""
    for name, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"] + HEADROOM_BYTES),
        (resource.RLIMIT_STACK, min(limits["stack_bytes"], limits["memory_bytes"])),
        (resource.RLIMIT_FSIZE, limits["output_bytes"]),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_NPROC, limits["max_threads"] + 2),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(name, (value, value))


def confine(setup: dict, fds: list[int], keep: int = -1) -> None:
    """Make `fds` descriptors 0, 1, 2 ..., close all others but `keep`, then give up every right for good."""
    take_descriptors(fds, keep)
    # The supervisor stops the program at the exact limit; the kernel's limit in whole seconds is the second line.
    seconds = int(setup["limits"]["cpu_seconds"]) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if setup["uid"] is not None:
        posix.setgroups([])
        posix.setresgid(setup["uid"], setup["uid"], setup["uid"])
        posix.setresuid(setup["uid"], setup["uid"], setup["uid"])
    install_filter(setup["filter"])


def take_descriptors(fds: list[int], keep: int) -> None:
    # The supervisor's own descriptors fill the low numbers, so none of `fds` is overwritten before it is copied.
    assert min(fds) >= len(fds)
    for target, fd in enumerate(fds):
        posix.dup2(fd, target)
    for first, last in ((len(fds), 256),) if keep < 0 else ((len(fds), keep), (keep + 1, 256)):
        posix.closerange(first, last)


def install_filter(program: bytes) -> None:
    """Install a seccomp filter (`struct sock_filter[]`) for this process and all it starts.

    Through `_ctypes` and the place of a bytes object's contents, which CPython keeps at its end before a zero byte:
    importing the packages `ctypes` or `array` costs more than a test.
    """
    address = id(program) + bytes.__basicsize__ - 1
    # struct sock_fprog of linux/filter.h: a 16-bit count, padding, the address.
    argument = (len(program) // 8).to_bytes(8, sys.byteorder) + address.to_bytes(8, sys.byteorder)
    if _ctypes.call_function(_prctl, (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, argument)) != 0:
        posix.write(2, b"the program filter was refused")
        posix._exit(97)
