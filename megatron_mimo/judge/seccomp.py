"""Seccomp filters as classic BPF programs, built here byte by byte: no libseccomp, no headers.

Two filters apply to a judged program, one over the other: `sandbox_filter` (bubblewrap installs it for all of the
sandbox) and `program_filter` (the supervisor installs it in the child that becomes the program). Both are allow-lists.
"""

import functools
import platform
import struct

from megatron_mimo.config import UserError
from megatron_mimo.judge.syscalls import PROGRAM, SUPERVISOR

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""machine -> (column of the tables in syscalls.py, AUDIT_ARCH constant of linux/audit.h)."""

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050001, 0x00050026
OFFSET_NUMBER, OFFSET_ARCHITECTURE, OFFSET_ARGUMENTS = 0, 4, 16

CLONE_THREAD = 0x00010000
CLONE_NEW_NAMESPACES = 0x7E020000
AF_UNIX = 1
TERMINAL_FREE_IOCTLS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS (isatty), FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, constant)."""


@functools.cache
def sandbox_filter(machine: str = platform.machine()) -> bytes:
    """The filter of the whole sandbox: may fork, may not make namespaces or sockets."""
    numbers = numbers_of(PROGRAM | SUPERVISOR, machine)
    return assemble(numbers, argument_rules(numbers, may_fork=True), machine)


@functools.cache
def program_filter(may_fork: bool, machine: str = platform.machine()) -> bytes:
    """The filter of a judged program: threads always, processes only if `may_fork`."""
    allowed = PROGRAM | ({name: SUPERVISOR[name] for name in ("fork", "vfork")} if may_fork else {})
    numbers = numbers_of(allowed, machine)
    return assemble(numbers, argument_rules(numbers, may_fork), machine)


def numbers_of(table: dict[str, tuple[int | None, int | None]], machine: str) -> dict[str, int]:
    """System call numbers of one machine. Raises UserError for an architecture without a table."""
    if machine not in ARCHITECTURES:
        raise UserError(f"the judge's seccomp filter knows {sorted(ARCHITECTURES)}, this machine is {machine!r}")
    column, _ = ARCHITECTURES[machine]
    return {name: number for name, pair in table.items() if (number := pair[column]) is not None}


def argument_rules(numbers: dict[str, int], may_fork: bool) -> dict[int, list[Instruction]]:
    """Calls allowed only with certain arguments: number -> instructions that decide. Low words suffice for ints."""
    rules = {
        "clone": clone_rule(may_fork),
        # Limits of other processes are nobody's business; pid 0 is oneself.
        "prlimit64": equals_rule(0, (0,)),
        "socketpair": equals_rule(0, (AF_UNIX,)),
        "ioctl": equals_rule(1, TERMINAL_FREE_IOCTLS),
    }
    return {numbers[name]: rule for name, rule in rules.items()}


def clone_rule(may_fork: bool) -> list[Instruction]:
    deny_namespaces: list[Instruction] = [load_argument(0), (JUMP_ANY_BIT, 0, 1, CLONE_NEW_NAMESPACES), returns(EPERM)]
    if may_fork:
        return [*deny_namespaces, returns(ALLOW)]
    return [*deny_namespaces, (JUMP_ANY_BIT, 0, 1, CLONE_THREAD), returns(ALLOW), returns(EPERM)]


def equals_rule(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    rule = [load_argument(argument)]
    for value in values:
        rule += [(JUMP_EQUAL, 0, 1, value), returns(ALLOW)]
    return [*rule, returns(EPERM)]


def load_argument(index: int) -> Instruction:
    return (LOAD, 0, 0, OFFSET_ARGUMENTS + 8 * index)


def returns(action: int) -> Instruction:
    return (RETURN, 0, 0, action)


def assemble(numbers: dict[str, int], rules: dict[int, list[Instruction]], machine: str) -> bytes:
    """The program as `struct sock_filter[]`: architecture, calls with argument rules, then a binary search.

    Short on purpose: installing it, once per test, the kernel compiles it to machine code and runs it for every number
    to learn which calls it allows whatever the arguments; it skips it for those from then on.
    """
    _, architecture = ARCHITECTURES[machine]
    program: list[Instruction] = [
        (LOAD, 0, 0, OFFSET_ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, architecture),
        returns(KILL_PROCESS),
        (LOAD, 0, 0, OFFSET_NUMBER),
        # The x32 interface of x86_64 shares the architecture constant and sets this bit.
        (JUMP_GREATER_EQUAL, 0, 1, 0x40000000),
        returns(KILL_PROCESS),
    ]
    for number, rule in rules.items():
        program += [(JUMP_EQUAL, 0, len(rule), number), *rule]
    program += [*search(runs(set(numbers.values()) - set(rules)), 0), returns(ALLOW), returns(ENOSYS)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def search(ascending: list[tuple[int, bool]], after: int) -> list[Instruction]:
    """Binary search in runs. `after` instructions stand between these and the two returns: allowed, not allowed."""
    if len(ascending) == 1:
        return []
    middle = len(ascending) // 2
    above = search(ascending[middle:], after)
    below = search(ascending[:middle], len(above) + after)
    to_above = len(below) + (0 if above else after + (not ascending[middle][1]))
    to_below = 0 if below else len(above) + after + (not ascending[0][1])
    return [(JUMP_GREATER_EQUAL, to_above, to_below, ascending[middle][0]), *below, *above]


def runs(allowed: set[int]) -> list[tuple[int, bool]]:
    """Runs of numbers that are all allowed or all not, as (first number, allowed); ascending from 0, the last open."""
    bounds = {0} | (allowed ^ {number + 1 for number in allowed})
    return [(number, number in allowed) for number in sorted(bounds)]
