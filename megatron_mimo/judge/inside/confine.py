"""The last steps of a child before it becomes a judged program: descriptors, limits, uid, seccomp."""

import ctypes
import os
import resource
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
HEADROOM_BYTES = 512 << 20
"""Address space beyond the memory limit: libraries, thread stacks and other things mapped but never touched."""


class FilterProgram(ctypes.Structure):
    """`struct sock_fprog` of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


_prctl = ctypes.CDLL(None, use_errno=True).prctl


def confine(setup: dict, memory_bytes: int, cpu_seconds: float, fds: list[int], keep: int = -1) -> None:
    """Make `fds` descriptors 0, 1, 2 ..., close all others but `keep`, then give up every right for good."""
    take_descriptors(fds, keep)
    set_limits(setup, memory_bytes, cpu_seconds)
    if setup["uid"] is not None:
        os.setgroups([])
        os.setresgid(setup["uid"], setup["uid"], setup["uid"])
        os.setresuid(setup["uid"], setup["uid"], setup["uid"])
    install_filter(setup["filter"])


def take_descriptors(fds: list[int], keep: int) -> None:
    # Through high numbers, so that no wanted descriptor is overwritten before it is copied.
    copies = [os.dup(fd) for fd in fds]
    low = len(fds)
    high = [fd if fd >= low else move_above(fd, low) for fd in copies]
    for target, fd in enumerate(high):
        os.dup2(fd, target)
    if keep < 0:
        os.closerange(low, 4096)
    else:
        os.closerange(low, keep)
        os.closerange(keep + 1, 4096)


def move_above(fd: int, low: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD, low)


def set_limits(setup: dict, memory_bytes: int, cpu_seconds: float) -> None:
    limits = setup["limits"]
    processor = int(cpu_seconds) + 2
    for name, value in (
        # The supervisor stops the program at the exact limit; the kernel's whole seconds stand behind it.
        (resource.RLIMIT_CPU, processor),
        (resource.RLIMIT_AS, memory_bytes + HEADROOM_BYTES),
        (resource.RLIMIT_STACK, min(limits["stack_bytes"], memory_bytes)),
        (resource.RLIMIT_FSIZE, limits["output_bytes"]),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_NPROC, limits["max_threads"] + 2),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(name, (value, value))


def install_filter(program: bytes) -> None:
    """Install a seccomp filter (`struct sock_filter[]`) for this process and all it starts."""
    arguments = FilterProgram(len(program) // 8, program)
    if _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(arguments), 0, 0) != 0:
        print("the program filter was refused: errno", ctypes.get_errno(), file=sys.stderr)
        os._exit(97)
