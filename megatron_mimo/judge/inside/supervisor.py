"""PID 1 of a sandbox: forks a child for every test, watches it, sweeps what it left, reports what the kernel measured.

It holds no expected output and no test's text: the judge passes both as memory files whose contents are never read here
(a forked child could find them in its copy of this memory). Being PID 1 of the PID namespace it takes no signal that it
has no handler for, so children cannot kill or stop it; there is no /proc and seccomp denies ptrace and its kin.
It handles data from the judge alone; from children it takes only what `wait4` says.

`posix` and not `os`, here and in what this imports: importing `os` takes almost as long as a test.
"""

import _signal
import _socket
import gc
import marshal
import posix
import select
import sys
import time

from . import confine, preload, program

REASON_NONE, REASON_CPU, REASON_WALL, REASON_FILES, REASON_STALLED = range(5)
PROGRESS_SECONDS = 2e-5
"""Processor time that a waiting program does not use; one that is starved gets far more, however seldom."""
LONGEST_PAUSE_SECONDS = 1.0
"""Of a poll: a machine that stood still takes no more of a program's time."""
WALL_PER_CPU_SECOND = 30.0
"""Clock seconds per second of processor time before a program that gets none is given up."""
POLL_SECONDS = 0.05
MAX_FILES = 4096
MAX_MESSAGE_BYTES = 1 << 16
SCRATCH = "/tmp"


class Supervisor:
    """One sandbox's loop. `code`: the compiled Python solution, opaque bytes; `binary`: descriptor of a C++ one."""

    def __init__(self, channel: "_socket.socket") -> None:
        self.channel = channel
        self.setup: dict = {}
        self.limits: dict = {}
        self.code = b""
        self.binary = -1
        self.scratch_changed = 0

    def run(self) -> None:
        while True:
            data, ancillary, _, _ = self.channel.recvmsg(MAX_MESSAGE_BYTES, _socket.CMSG_SPACE(8 * 4))
            if not data:
                return
            message = marshal.loads(data)
            fds = received_descriptors(ancillary)
            reply = getattr(self, "do_" + message["do"])(message, fds)
            for fd in fds:
                if fd != self.binary:
                    posix.close(fd)
            self.channel.send(" ".join(map(str, reply)).encode())

    def do_setup(self, message: dict, fds: list[int]) -> tuple:
        """First message: uid, limits, the program's seccomp filter, module names worth importing once."""
        self.setup = message
        self.limits = message["limits"]
        confine.limit_all(self.limits)
        preload.add_site_builtins()
        preload.import_modules(message["preload"])
        gc.freeze()
        self.scratch_changed = posix.stat(SCRATCH).st_ctime_ns if self.limits["scratch_bytes"] else 0
        return (posix.getpid(),)

    def do_load(self, message: dict, fds: list[int]) -> tuple:
        """Compile a Python solution in a child: the parser must not meet the solution in this process."""
        source, errors = fds
        out = posix.memfd_create("code")

        def child() -> None:
            confine.confine(self.setup, [source, out, errors])
            program.compile_source(message["prelude"])

        reply = self.watch([fork(child)])
        self.code = posix.pread(out, posix.fstat(out).st_size, 0)
        posix.close(out)
        return reply

    def do_load_binary(self, message: dict, fds: list[int]) -> tuple:
        self.binary = fds[0]
        posix.set_inheritable(self.binary, False)
        return (0,)

    def do_compile(self, message: dict, fds: list[int]) -> tuple:
        """Run the compiler of `message["arguments"]` on the source; its output file goes to the second descriptor."""
        source, binary, messages = fds

        def child() -> None:
            confine.confine(self.setup, [source, messages, messages])
            posix.execv(message["arguments"][0], message["arguments"])

        reply = self.watch([fork(child)])
        if reply[0] == 0:
            copy_file(SCRATCH + "/program", binary)
        return reply

    def do_test(self, message: dict, fds: list[int]) -> tuple:
        """Run one test: `kind` stdio or call (stdin, stdout, stderr, result) or assert (program, stdout, stderr)."""
        if message["kind"] == "assert":
            return self.run_asserts(message, fds)
        keep = self.binary

        def child() -> None:
            confine.confine(self.setup, fds, keep)
            if keep >= 0:
                # Python ignores these, and ignored signals stay so across exec.
                for number in (_signal.SIGXFSZ, _signal.SIGPIPE):
                    _signal.signal(number, _signal.SIG_DFL)
                posix.execve(keep, ["program"], posix.environ)
            program.run(self.code, message)

        return self.watch([fork(child)])

    def run_asserts(self, message: dict, fds: list[int]) -> tuple:
        """The solution serves its functions in one child; another, which has none of its code, runs the asserts."""
        test, output, errors = fds
        near, far = _socket.socketpair()
        empty = posix.open("/dev/null", posix.O_RDONLY)

        def solution() -> None:
            inherited = [empty, output, errors, far.fileno()]
            confine.confine(self.setup, inherited)
            program.serve(self.code)

        def examiner() -> None:
            inherited = [test, output, errors, near.fileno()]
            confine.confine(self.setup, inherited)
            from . import examiner

            examiner.run(message)

        served = fork(solution)
        pids = [fork(examiner), served]
        for end in (near, far):
            end.close()
        posix.close(empty)
        return self.watch(pids)

    def watch(self, pids: list[int]) -> tuple:
        """Wait for the first of `pids`, within limits; kill everything else; reap.

        Returns (wait status, CPU microseconds, wall microseconds, peak KiB, reason, changed scratch directory or not).
        """
        start = time.monotonic()
        reason = self.wait(pids, start)
        wall = time.monotonic() - start
        sweep()
        status, processor, peak, waited = reap(pids[0])
        if reason == REASON_STALLED and waited:
            reason = REASON_WALL
        if reason == REASON_NONE and processor > self.limits["cpu_seconds"]:
            reason = REASON_CPU
        return (status, int(processor * 1e6), int(wall * 1e6), peak, reason, int(self.scratch_dirty()))

    def wait(self, pids: list[int], start: float) -> int:
        """Processor time decides. A program that uses none for wall_seconds waits for something: REASON_WALL. One that
        wants the processor has many times longer: REASON_STALLED says nothing about the program.
        """
        descriptor = posix.pidfd_open(pids[0])
        before, used, waiting = start, 0.0, 0.0
        # Of processes that the program starts, nothing is known before they end: the clock decides alone.
        starved = 0.0 if self.limits["may_fork"] else WALL_PER_CPU_SECOND * self.limits["cpu_seconds"]
        longest = self.limits["wall_seconds"] + starved
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        try:
            while not poller.poll(POLL_SECONDS * 1000):
                now, total = time.monotonic(), sum(map(processor_seconds, pids))
                if total > self.limits["cpu_seconds"]:
                    return REASON_CPU
                waiting = waiting + min(now - before, LONGEST_PAUSE_SECONDS) if total - used < PROGRESS_SECONDS else 0.0
                before, used = now, total
                if waiting > self.limits["wall_seconds"]:
                    return REASON_WALL
                if now - start > longest:
                    return REASON_STALLED if starved else REASON_WALL
                if self.limits["scratch_bytes"] and files_in_scratch() > MAX_FILES:
                    return REASON_FILES
            return REASON_NONE
        finally:
            posix.close(descriptor)

    def scratch_dirty(self) -> bool:
        """Whether anything was made, renamed, removed or relabelled in /tmp: the next test needs a new sandbox."""
        return bool(self.scratch_changed) and posix.stat(SCRATCH).st_ctime_ns != self.scratch_changed


def fork(body) -> int:
    """Fork; the child runs `body`, which must not return, and never comes back into the supervisor's loop."""
    pid = posix.fork()
    if pid:
        return pid
    try:
        body()
    except BaseException as error:
        posix.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        posix._exit(98)


def sweep() -> None:
    """Kill every other process of the namespace. The kernel does it against forks in flight; PID 1 is exempt."""
    try:
        posix.kill(-1, _signal.SIGKILL)
    except ProcessLookupError:
        return


def reap(main_pid: int) -> tuple[int, float, int, bool]:
    """Wait for all children, orphans included.

    Returns (status of main_pid, CPU seconds of all, peak KiB of one, whether they gave the processor up more often than
    it was taken from them: programs that nap in a loop do).
    """
    status, processor, peak, given_up = 0, 0.0, 0, 0
    while True:
        try:
            pid, result, usage = posix.wait4(-1, 0)
        except ChildProcessError:
            return status, processor, peak, given_up > 0
        given_up += usage.ru_nvcsw - usage.ru_nivcsw
        processor += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss)
        if pid == main_pid:
            status = result


def processor_seconds(pid: int) -> float:
    """CPU time of a process over all its threads: Linux forms the clock's number from the pid."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def files_in_scratch() -> int:
    usage = posix.statvfs(SCRATCH)
    return usage.f_files - usage.f_ffree


def copy_file(path: str, target: int) -> None:
    source = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW)
    while posix.sendfile(target, source, None, 1 << 24):
        pass
    posix.close(source)


def received_descriptors(ancillary: list) -> list[int]:
    data = b"".join(part for _, _, part in ancillary)
    return [int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, len(data), 4)]


def main() -> None:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    channel = _socket.socket(fileno=posix.dup(0))
    posix.set_inheritable(channel.fileno(), False)
    Supervisor(channel).run()
    posix._exit(0)


if __name__ == "__main__":
    sys.exit("run by the judge inside a sandbox")
