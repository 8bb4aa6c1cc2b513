"""The bubblewrap command line: what a sandbox sees of the host, and which rights its supervisor has."""

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from megatron_mimo.config import UserError
from megatron_mimo.config.judge import JudgeConfig

INSIDE = Path(__file__).parent / "inside"
START = (
    "import sys; sys.path[:0] = ['/judge']; sys.path += {packages}; from inside import supervisor; supervisor.main()"
)
LIBRARY_FOLDERS = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/local/lib")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",
    "PYTHONHASHSEED": "0",
    # Symbols are looked up once by the supervisor, not by every child again.
    "LD_BIND_NOW": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class SandboxUnavailable(UserError):
    """No program can be judged on this machine; programs are never run without a sandbox."""


@dataclass(frozen=True)
class Host:
    """What the sandbox needs of this machine, found once."""

    bubblewrap: str
    python: str
    """Real path of the interpreter, not a virtual environment's link."""
    python_prefix: str
    packages: tuple[str, ...]
    is_root: bool
    """As root every slot's programs have a uid of their own; else a user namespace stands in for it."""


def find_host(config: JudgeConfig) -> Host:
    """Look for bubblewrap and the interpreter. Raises SandboxUnavailable with what to install."""
    if sys.platform != "linux":
        raise SandboxUnavailable("the judge needs Linux: namespaces and seccomp hold the programs it runs")
    bubblewrap = shutil.which(config.bubblewrap)
    if bubblewrap is None:
        raise SandboxUnavailable(
            f"{config.bubblewrap} not found: install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap); "
            "programs are never run without it"
        )
    script = "import os, sys; print(os.path.realpath(sys.executable)); print(sys.base_prefix)"
    try:
        found = subprocess.run([config.interpreter, "-I", "-c", script], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SandboxUnavailable(f"judge.python = {config.interpreter!r} does not run: {error}") from error
    python, prefix = found.stdout.splitlines()
    # The supervisor's modules are read from bytecode, which only the host can write.
    subprocess.run([python, "-m", "compileall", "-q", str(INSIDE)], capture_output=True, check=False)
    return Host(bubblewrap, python, prefix, config.python_packages, os.geteuid() == 0)


def command(host: Host, scratch_bytes: int, seccomp_fd: int, with_compiler: bool) -> list[str]:
    """The command that starts a supervisor on descriptor 0."""
    return [
        host.bubblewrap,
        *rights(host),
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--die-with-parent",
        "--new-session",
        # The supervisor must be PID 1 itself: the kernel then shields it from its children's signals.
        "--as-pid-1",
        "--clearenv",
        *(word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)),
        *mounts(host, scratch_bytes, with_compiler),
        "--seccomp",
        str(seccomp_fd),
        host.python,
        # No site: its .pth files cost more than a test. -P: no script folder on the path.
        *("-S", "-B", "-P", "-X", "utf8", "-c"),
        START.format(packages=[*package_places(host).values()]),
    ]


def rights(host: Host) -> list[str]:
    """Root: no user namespace, but capabilities to change uid and to kill. Others: a user namespace, none at all."""
    if not host.is_root:
        return ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    kept = ("CAP_SETUID", "CAP_SETGID", "CAP_KILL")
    return ["--cap-drop", "ALL", *(word for name in kept for word in ("--cap-add", name))]


@functools.cache
def mounts(host: Host, scratch_bytes: int, with_compiler: bool) -> list[str]:
    """Read-only libraries, interpreter and devices; a private /tmp if any; no /proc, /sys, /etc or home."""
    words = open_folders("/usr", "/judge", "/dev", *map(os.path.dirname, (host.python, host.python_prefix)))
    words += open_folders(*package_places(host).values())
    folders = ["/usr", *LIBRARY_FOLDERS, "/bin"] if with_compiler else [*LIBRARY_FOLDERS]
    for folder in folders:
        words += mirror(folder)
    if host.python_prefix in ("/usr", "/usr/local"):
        words += [] if with_compiler else ["--ro-bind", host.python, host.python]
    else:
        words += ["--ro-bind", host.python_prefix, host.python_prefix]
    for folder, place in package_places(host).items():
        words += ["--ro-bind", folder, place]
    words += ["--ro-bind", str(INSIDE), "/judge/inside"]
    for device in DEVICES:
        words += ["--dev-bind", device, device]
    words += ["--symlink", "/tmp/stdin", "/dev/stdin", "--symlink", "/tmp", "/dev/shm"]
    if scratch_bytes:
        words += ["--perms", "1777", "--size", str(scratch_bytes), "--tmpfs", "/tmp"]
    else:
        words += ["--dir", "/tmp"]
    return [*words, "--chdir", "/tmp", "--remount-ro", "/"]


def package_places(host: Host) -> dict[str, str]:
    """Folder -> its place in the sandbox, where no other mount hides it: theirs may lie below /tmp."""
    return {folder: f"/packages/{number}" for number, folder in enumerate(host.packages)}


def open_folders(*folders: str) -> list[str]:
    """Make folders and their parents passable for every uid; bubblewrap would make them for its own alone."""
    paths = {path for folder in folders for path in (Path(folder), *Path(folder).parents)} - {Path("/")}
    return [word for path in sorted(paths) for word in ("--perms", "0755", "--dir", str(path))]


def mirror(folder: str) -> list[str]:
    """The same folder inside, read-only; a link stays a link."""
    path = Path(folder)
    if path.is_symlink():
        return ["--symlink", os.readlink(folder), folder]
    return ["--ro-bind", folder, folder] if path.is_dir() else []
