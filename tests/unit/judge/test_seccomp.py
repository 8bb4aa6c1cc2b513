"""The filters, run by a small interpreter of classic BPF and compared with the kernel's own headers."""

import re
import struct
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.judge.seccomp import (
    ALLOW,
    ARCHITECTURES,
    ENOSYS,
    EPERM,
    KILL_PROCESS,
    program_filter,
    sandbox_filter,
)
from megatron_mimo.judge.syscalls import PROGRAM, SUPERVISOR

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
MACHINES = sorted(ARCHITECTURES)


def execute(program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = 0xC000003E) -> int:
    """What the kernel does with a filter: `struct seccomp_data` in, action out."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator, place = 0, 0
    while True:
        code, yes, no, constant = instructions[place]
        place += 1
        if code == 0x06:
            return constant
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, constant)[0]
        else:
            holds = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}
            place += yes if holds[code] else no


@pytest.mark.parametrize("machine", MACHINES)
def test_exactly_the_listed_calls_are_allowed(machine: str) -> None:
    column, architecture = ARCHITECTURES[machine]
    by_argument = {"clone", "prlimit64", "socketpair", "ioctl"}
    for program, table in ((sandbox_filter(machine), PROGRAM | SUPERVISOR), (program_filter(False, machine), PROGRAM)):
        allowed = {pair[column] for name, pair in table.items() if name not in by_argument}
        ruled = {pair[column] for name, pair in table.items() if name in by_argument}
        for number in {*range(600), 0x3FFFFFFF} - ruled:
            expected = ALLOW if number in allowed else ENOSYS
            assert execute(program, number, architecture=architecture) == expected, number


def test_arguments_decide() -> None:
    clone, prlimit, ioctl, socketpair = (PROGRAM[name][0] for name in ("clone", "prlimit64", "ioctl", "socketpair"))
    assert clone is not None and prlimit is not None and ioctl is not None and socketpair is not None
    thread, process, user_namespace = 0x3D0F00, 0x01200011, 0x10000011
    strict, lenient = program_filter(may_fork=False), program_filter(may_fork=True)
    assert execute(strict, clone, (thread,)) == ALLOW
    assert execute(strict, clone, (process,)) == EPERM
    assert execute(lenient, clone, (process,)) == ALLOW
    assert execute(lenient, clone, (user_namespace,)) == EPERM
    assert execute(sandbox_filter(), clone, (user_namespace | 0x10000,)) == EPERM
    assert execute(strict, prlimit, (0,)) == ALLOW
    assert execute(strict, prlimit, (1,)) == EPERM
    assert execute(strict, ioctl, (0, 0x5401)) == ALLOW
    assert execute(strict, ioctl, (0, 0x5412)) == EPERM, "TIOCSTI types into a terminal"
    assert execute(strict, socketpair, (1, 1)) == ALLOW
    assert execute(strict, socketpair, (2, 1)) == EPERM


def test_foreign_interfaces_are_fatal() -> None:
    for program in (sandbox_filter("x86_64"), program_filter(True, "x86_64")):
        assert execute(program, 1, architecture=0x40000003) == KILL_PROCESS, "i386"
        assert execute(program, 0x40000001) == KILL_PROCESS, "x32"


def test_filters_fit_the_kernel() -> None:
    assert all(len(program_filter(False, machine)) // 8 < 4096 for machine in MACHINES)
    with pytest.raises(UserError, match="riscv64"):
        sandbox_filter("riscv64")


def test_dangerous_calls_are_not_listed() -> None:
    dangerous = (
        "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp mount umount2 pivot_root chroot unshare "
        "setns clone3 bpf io_uring_setup userfaultfd perf_event_open keyctl add_key socket connect bind "
        "shmget semget msgget mq_open personality init_module kexec_load reboot swapon iopl mknod mknodat "
        "open_by_handle_at name_to_handle_at fanotify_init quotactl acct syslog setpriority "
        "sched_setscheduler sched_setaffinity move_pages mbind "
    )
    assert not set(dangerous.split()) & (PROGRAM.keys() | SUPERVISOR.keys())


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip("needs the kernel's headers")
    text = header.read_text()
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", text, re.M)}
    numbers |= {"newfstatat": numbers.get("newfstatat", 79)}
    column, _ = ARCHITECTURES[machine]
    for name, pair in (PROGRAM | SUPERVISOR).items():
        assert pair[column] == numbers.get(name), name
