# ruff: noqa: E501  (programs as strings)
"""Programs that attack the judge: none is accepted, the judge lives on, the host is unchanged."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from megatron_mimo.judge import (
    AssertTest,
    CallTest,
    JudgeConfig,
    JudgePool,
    JudgeRequest,
    Limits,
    Solution,
    StdioTest,
    Verdict,
)
from megatron_mimo.judge.bubblewrap import find_host
from megatron_mimo.judge.sandbox import Sandbox, SandboxOutcome
from support.patience import patience

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap"),
]

LIMITS = Limits(cpu_seconds=0.7, wall_seconds=patience(3), memory_bytes=200 << 20, output_bytes=1 << 20, max_threads=16)
SECRET = "the expected output 8341"
SYSCALL = (
    "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "def syscall(*a):\n    r = libc.syscall(*a)\n    return r if r >= 0 else -ctypes.get_errno()\n"
)

CONTAINED = {
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "fork bomb that swallows errors": (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    ),
    "thread bomb": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(100,)).start()"
    ),
    "subprocess": "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'echo hi'])",
    "os.system": "import os\nassert os.system('true') == 0",
    "memory bomb": "x = [0]\nwhile True:\n    x += x",
    "memory in threads": (
        "import threading\nkept = []\ndef eat():\n    while True:\n        kept.append(bytearray(1 << 24))\n"
        "for _ in range(8):\n    threading.Thread(target=eat).start()"
    ),
    "memory files": "import os\nfor _ in range(200):\n    os.write(os.memfd_create('x'), bytes(1 << 20))",
    "disk fill": "for i in range(10**6):\n    open(f'/tmp/{i}', 'wb').write(bytes(1 << 20))",
    "inode fill": "i = 0\nwhile True:\n    open(f'/tmp/{i}', 'w').close()\n    i += 1",
    "deep directories": "import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')",
    "output flood": "import os\nwhile True:\n    os.write(1, b'x' * 65536)",
    "error flood": "import os\nwhile True:\n    os.write(2, b'x' * 65536)",
    "sleep": "import time\ntime.sleep(1000)",
    "ignore signals and loop": (
        "import signal\nfor s in range(1, 65):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass"
    ),
    "stop itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "kill everything": "import os, signal\nos.kill(-1, signal.SIGKILL)\nos.kill(1, signal.SIGKILL)\nwhile True: pass",
    "signals to the parent": (
        "import os\nfor s in list(range(1, 32)) * 50:\n    if s not in (9, 19):\n        os.kill(os.getppid(), s)\n"
        "os.kill(1, 19)\nos.kill(1, 9)\nraise SystemExit(1)"
    ),
    "own group": "import os\nos.kill(0, 9)",
    "network": "import socket\nsocket.create_connection(('8.8.8.8', 53), 1)",
    "listen": "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()",
    "abstract unix socket": "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0x')",
    "netlink by socketpair": "import socket\nsocket.socketpair(socket.AF_INET)",
    "read /proc": "print(open('/proc/1/environ').read())",
    "read /proc/self": "print(open('/proc/self/status').read())",
    "read /etc/passwd": "print(open('/etc/passwd').read())",
    "read the home": "import os\nassert os.listdir('/root') == ['x']",
    "write to libraries": "open('/usr/lib/evil.py', 'w')",
    "write to the harness": "open('/judge/inside/program.py', 'a')",
    "write to the root": "open('/evil', 'w')",
    "symlink out": "import os\nos.symlink('/etc/shadow', '/tmp/x')\nprint(open('/tmp/x').read())",
    "hard link": "import os\nos.link('/judge/inside/program.py', '/tmp/x')\nopen('/tmp/x', 'a')",
    "chroot": "import os\nos.chroot('/tmp')",
    "setuid": "import os\nos.setuid(0)",
    "device": "import os\nos.mknod('/tmp/sda', 0o60600, os.makedev(8, 0))",
    "sysrq": "open('/proc/sysrq-trigger', 'w').write('b')",
    "limits of the supervisor": "import resource\nresource.prlimit(1, resource.RLIMIT_CPU, (0, 0))",
    "raise own limits": "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 40))",
    "priority of the supervisor": "import os\nos.setpriority(os.PRIO_PROCESS, 1, 19)",
    "exec another interpreter": "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(1)'])",
    "core of the interpreter": "import ctypes\nctypes.string_at(0)",
    "recursion in the parser": "x = " + "(" * 5000 + ")" * 5000,
    "recursion in the compiler": "x = " + "-" * 200000 + "1",
    "huge constant": "x = (1 << 10**9) ** 2",
    "close everything": "import os\nos.closerange(0, 1000)\nraise SystemExit(1)",
    "system call: ptrace": SYSCALL + "assert syscall(101, 16, 1, 0, 0) >= 0",
    "system call: mount": SYSCALL + "assert syscall(165, b'none', b'/tmp', b'tmpfs', 0, 0) == 0",
    "system call: unshare": SYSCALL + "assert syscall(272, 0x10000000) == 0",
    "system call: setns": SYSCALL + "assert syscall(308, 0, 0) == 0",
    "system call: clone into a user namespace": SYSCALL + "assert syscall(56, 0x10000011, 0, 0, 0, 0) >= 0",
    "system call: clone3": SYSCALL + "assert syscall(435, bytes(88), 88) >= 0",
    "system call: io_uring": SYSCALL + "assert syscall(425, 8, bytes(120)) >= 0",
    "system call: bpf": SYSCALL + "assert syscall(321, 0, bytes(64), 64) >= 0",
    "system call: userfaultfd": SYSCALL + "assert syscall(323, 1) >= 0",
    "system call: perf_event_open": SYSCALL + "assert syscall(298, bytes(120), 0, -1, -1, 0) >= 0",
    "system call: keyctl": SYSCALL + "assert syscall(250, 0, -3, 1) >= 0",
    "system call: shmget": SYSCALL + "assert syscall(29, 77, 4096, 0o1666) >= 0",
    "system call: process_vm_readv": SYSCALL + "assert syscall(310, 1, 0, 0, 0, 0, 0) >= 0",
    "system call: pidfd_getfd": SYSCALL + "assert syscall(438, syscall(434, 1, 0), 0, 0) >= 0",
    "system call: 32-bit table": SYSCALL + "assert syscall(0x40000000 + 39) >= 0",
}
"""None of these prints the answer, so `accepted` is out; the point is that the judge and the host survive them."""

CPP_CONTAINED = {
    "fork bomb": "#include <unistd.h>\nint main(){for(;;)fork();}",
    "static start": "#include <csignal>\nstruct A{A(){raise(SIGKILL);}}a;int main(){}",
    "stack": "int f(volatile int n){volatile char a[4096];a[n%4096]=n;return f(n+1)+a[0];}int main(){return f(0);}",
    "template recursion": "template<int n>struct A{static constexpr int v=A<n-1>::v+A<n-2>::v;};int main(){return A<1000000>::v;}",
    "include bomb": '#include "/dev/zero"\nint main(){}',
    "include the source again": "#include __FILE__\nint main(){}",
    "include a secret": '#include "/etc/shadow"\nint main(){}',
    "assembler includes a secret": 'asm(".incbin \\"/etc/shadow\\"");int main(){}',
    "large object": "char a[1ull<<33]={1};int main(){}",
}

FORGERIES = {
    "frames": (
        "import sys\nframe = sys._getframe()\nwhile frame:\n    for value in list(frame.f_locals.values()):\n"
        "        if 'expected output' in repr(value):\n            print(value)\n    frame = frame.f_back"
    ),
    "garbage collector": (
        "import gc\nfor x in gc.get_objects():\n    if type(x) is dict and any(v == "
        + repr(SECRET[:12])
        + " for v in x.values()):\n"
        "        print(x)"
    ),
    "own descriptors": (
        "import os\nfor fd in range(256):\n    try:\n        os.write(1, os.pread(fd, 1000, 0))\n    except OSError:\n        pass"
    ),
    "verdict on every descriptor": (
        "import os\nfor fd in range(3, 256):\n    for text in (b'0 0 0 0 0 0', b'accepted', b'\\0' * 24):\n"
        "        try:\n            os.write(fd, text)\n        except OSError:\n            pass"
    ),
    "exit early": "import os\nos._exit(0)",
    "patch exit": "import os, sys\nos._exit = lambda code: None\nsys.exit = lambda code=0: None",
    "patch the harness": (
        "import sys\nfor name, module in list(sys.modules.items()):\n    if name.startswith('inside'):\n"
        "        for key, value in list(vars(module).items()):\n            if callable(value):\n"
        "                setattr(module, key, lambda *a, **k: (0, 0, 0, 0, 0, 0))"
    ),
    "equal to everything": (
        "import sys\nclass Any(str):\n    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n    __hash__ = str.__hash__\n"
        "sys.stdout.write(Any('x'))"
    ),
    "patch str": "import builtins\nbuiltins.str = builtins.bytes = lambda *a: 'x'\nprint('x')",
    "search the memory": (
        "import ctypes\n" + "hay = ctypes.string_at(id(object) - (1 << 12), 1 << 13)\n"
        "i = hay.find(b'the expected')\nprint(hay[i:i + 24] if i >= 0 else '')"
    ),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[JudgePool]:
    with JudgePool(JudgeConfig(num_slots=2)) as pool:
        yield pool


def host_state() -> list[str]:
    """What a program could have left behind on the host."""
    kept = [str(path) for folder in ("/", "/usr/lib", "/etc") for path in Path(folder).iterdir()]
    inside = [path.read_text() for path in sorted(Path("megatron_mimo/judge/inside").glob("*.py"))]
    return sorted(kept) + inside


def strays() -> list[str]:
    """Processes of sandboxes that outlived their judge."""
    names = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"inside import supervisor" in words and parent == 1:
            names.append(words.decode(errors="replace"))
    return names


@pytest.fixture(scope="module", autouse=True)
def _host_is_unchanged() -> Iterator[None]:
    before = host_state()
    yield
    assert host_state() == before
    time.sleep(0.2)
    assert not strays()


def assert_alive(pool: JudgePool) -> None:
    sound = pool.judge_now(Solution(source="print(int(input()) + 1)"), [StdioTest(stdin="1", stdout="2")])
    assert sound.verdict is Verdict.ACCEPTED, sound


@pytest.mark.parametrize("name", CONTAINED)
def test_contained(pool: JudgePool, name: str) -> None:
    result = pool.judge_now(Solution(source=CONTAINED[name]), [StdioTest(stdin="", stdout=SECRET)], limits=LIMITS)
    assert result.verdict not in (Verdict.ACCEPTED, Verdict.JUDGE_FAULT), result
    if name not in ("close everything",):
        assert result.verdict is not Verdict.WRONG_ANSWER, f"the attack ran to its end: {result}"
    assert_alive(pool)


@pytest.mark.parametrize("name", CPP_CONTAINED)
def test_cpp_contained(pool: JudgePool, name: str) -> None:
    limits = Limits(cpu_seconds=0.7, wall_seconds=patience(3), compile_cpu_seconds=2, compile_memory_bytes=512 << 20)
    solution = Solution(source=CPP_CONTAINED[name], language="cpp")
    result = pool.judge_now(solution, [StdioTest(stdin="", stdout=SECRET)], limits=limits)
    assert result.verdict not in (Verdict.ACCEPTED, Verdict.JUDGE_FAULT, Verdict.WRONG_ANSWER), result
    assert_alive(pool)


def test_fork_bomb_with_processes_allowed(pool: JudgePool) -> None:
    limits = Limits(cpu_seconds=0.7, wall_seconds=patience(2), may_fork=True, max_threads=20)
    source = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    result = pool.judge_now(Solution(source=source), [StdioTest(stdin="", stdout="")] * 2, limits=limits)
    assert {test.verdict for test in result.tests} == {Verdict.TIME_LIMIT}
    assert_alive(pool)


def test_processes_do_not_outlive_their_test(pool: JudgePool) -> None:
    """With processes allowed: a child that lives on is gone before the next test looks for it."""
    source = (
        "import os, time\n"
        "if input() == 'leave':\n"
        "    if os.fork() == 0:\n        os.setsid()\n        time.sleep(100)\n"
        "    print('left')\nelse:\n"
        "    alive = 0\n    for pid in range(2, 500):\n        if pid != os.getpid():\n            try:\n"
        "                os.kill(pid, 0)\n                alive += 1\n            except ProcessLookupError:\n                pass\n"
        "    print(alive)"
    )
    tests = [StdioTest(stdin="leave", stdout="left"), StdioTest(stdin="count", stdout="0")]
    result = pool.judge_now(Solution(source=source), tests, limits=Limits(may_fork=True, max_threads=8))
    assert result.passed == [True, True], result


@pytest.mark.parametrize("name", FORGERIES)
def test_stdio_verdicts_cannot_be_forged(pool: JudgePool, name: str) -> None:
    tests = [StdioTest(stdin="x", stdout=SECRET)] * 2
    result = pool.judge_now(Solution(source=FORGERIES[name]), tests, limits=LIMITS)
    assert not any(result.passed), result
    assert_alive(pool)


CALL_FORGERIES = {
    "equal to everything": "class A(list):\n    __eq__ = lambda s, o: True\ndef f(x): return A()",
    "exit": "import os\ndef f(x): os._exit(0)",
    "system exit": "def f(x): raise SystemExit(0)",
    "own answer file": "import os\ndef f(x):\n    os.write(3, b'true')\n    os._exit(0)",
    "json patched": "import json\njson.dumps = lambda *a, **k: 'null'\ndef f(x): return 1",
    "deep json": "import os\ndef f(x):\n    os.write(3, b'[' * 100000)\n    os._exit(0)",
    "not json": "import os\ndef f(x):\n    os.write(3, b'\\xff\\0')\n    os._exit(0)",
    "nan": "def f(x): return float('nan')",
    "frames": (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        if 'expected' in frame.f_locals:\n"
        "            return frame.f_locals['expected']\n        frame = frame.f_back"
    ),
}


@pytest.mark.parametrize("name", CALL_FORGERIES)
def test_call_verdicts_cannot_be_forged(pool: JudgePool, name: str) -> None:
    test = CallTest(function="f", arguments=[1], expected=[8341, SECRET])
    result = pool.judge_now(Solution(source=CALL_FORGERIES[name]), [test] * 2, limits=LIMITS)
    assert not any(result.passed), result
    assert_alive(pool)


HANG_UP = "import os\nos.closerange(3, 256)\ndef f(x): return x\n"
SPEAK = (
    "import json, os\ndef say(message):\n    data = json.dumps(message).encode()\n"
    "    os.write(3, len(data).to_bytes(4, 'little') + data)\n"
)
NAMES = "{'functions': ['f'], 'modules': {}, 'values': []}"
ASSERT_FORGERIES = {
    "equal to everything": "class A:\n    __eq__ = lambda s, o: True\n    __hash__ = None\ndef f(x): return A()",
    "int equal to everything": "class A(int):\n    __eq__ = lambda s, o: True\ndef f(x): return A(1)",
    "exit": "import os\nos._exit(0)\ndef f(x): return 1",
    "system exit": "raise SystemExit(0)",
    "system exit in the call": "import sys\ndef f(x): sys.exit(0)",
    "exit in the call": "import os\ndef f(x): os._exit(0)",
    "hang up": HANG_UP,
    "patch assertion": "import builtins\nbuiltins.AssertionError = ValueError\ndef f(x): return 1",
    "shadow builtins": "def all(x): return True\ndef len(x): return 8341\ndef isinstance(*a): return True\ndef f(x): return 1",
    "forged exception": SPEAK
    + f"say({NAMES})\nsay({{'error': 'SystemExit', 'text': '0'}})\nimport time; time.sleep(9)",
    "forged keyboard interrupt": SPEAK
    + f"say({NAMES})\nsay({{'error': 'KeyboardInterrupt', 'text': ''}})\nos._exit(0)",
    "malformed": "import os\nos.write(3, b'\\xff' * 1000)\ndef f(x): return 1",
    "malformed json": "import os\nos.write(3, b'\\x04\\0\\0\\0nope')\ndef f(x): return 1",
    "forged names": SPEAK
    + "say({'functions': ['AssertionError', 'print', 'compile', '__builtins__', 'f'], 'modules': {'f': 'os'}, 'values': [['__builtins__', {'dict': []}], ['__name__', 'x']]})\ndef f(x): return 1",
    "unknown handle": SPEAK + f"say({NAMES})\nsay({{'value': {{'handle': 10**9}}, 'arguments': [1]}})\nos._exit(0)",
    "kill the examiner": "import os\nfor pid in range(2, 400):\n    if pid != os.getpid():\n        try:\n            os.kill(pid, 9)\n        except OSError:\n            pass\ndef f(x): return 1",
    "stop the examiner": "import os\nfor pid in range(2, 400):\n    if pid != os.getpid():\n        try:\n            os.kill(pid, 19)\n        except OSError:\n            pass\ndef f(x): return 1",
    "kill the examiner in the call": (
        "import os\ndef f(x):\n    for pid in range(2, 400):\n        if pid != os.getpid():\n            try:\n"
        "                os.kill(pid, 9)\n            except OSError:\n                pass\n    return 8341"
    ),
    "look for the test": (
        "import gc, os\nfound = ''\nfor fd in range(256):\n    try:\n        found += os.pread(fd, 1000, 0).decode('latin1')\n"
        "    except OSError:\n        pass\ndef f(x):\n    return 8341 if '8341' in found else 1"
    ),
    "look for the last test in memory": (
        "import gc\ndef f(x):\n    for o in gc.get_objects():\n        if type(o) is dict:\n            for v in list(o.values()):\n"
        "                if type(v) in (str, bytes) and ('83' + '41' in str(v)):\n                    return 8341\n    return 1"
    ),
}


@pytest.mark.parametrize("name", ASSERT_FORGERIES)
def test_assert_verdicts_cannot_be_forged(pool: JudgePool, name: str) -> None:
    test = AssertTest(
        program="assert f(1) == 8341\nassert len([f(2)]) == 1 and isinstance(f(1), int)", entry_points=["f"]
    )
    result = pool.judge_now(Solution(source=ASSERT_FORGERIES[name]), [test] * 2, limits=LIMITS)
    assert not any(result.passed), result
    assert result.verdict is not Verdict.JUDGE_FAULT, result
    assert_alive(pool)


def test_tests_do_not_see_each_other(pool: JudgePool) -> None:
    """Files, links, environment, module state and directory attributes of one test are gone in the next."""
    source = (
        "import os, sys, math\n"
        "marks = [os.path.exists('/tmp/mark'), hasattr(math, 'mark'), 'MARK' in os.environ, os.stat('/tmp').st_mode & 0o777 == 0o755]\n"
        "print(*marks, len(os.listdir('/tmp')))\n"
        "open('/tmp/mark', 'w').write('x')\nmath.mark = 1\nos.environ['MARK'] = '1'\n"
        "os.chmod('/tmp', 0o755) if os.stat('/tmp').st_uid == os.getuid() else None"
    )
    tests = [StdioTest(stdin="", stdout="False False False False 0")] * 4
    assert all(pool.judge_now(Solution(source=source), tests).passed)


def test_no_scratch_directory_when_off(pool: JudgePool) -> None:
    source = "try:\n    open('/tmp/x', 'w')\nexcept OSError:\n    print('read-only')"
    result = pool.judge_now(
        Solution(source=source), [StdioTest(stdin="", stdout="read-only")], limits=Limits(scratch_bytes=0)
    )
    assert all(result.passed), result


def test_the_host_is_out_of_sight(pool: JudgePool) -> None:
    source = "import os\nprint(sorted(os.listdir('/')), os.getpid() < 50, os.environ.get('SECRET_TOKEN'))"
    os.environ["SECRET_TOKEN"] = "x"
    try:
        result = pool.judge_now(Solution(source=source), [StdioTest(stdin="", stdout="?")])
    finally:
        del os.environ["SECRET_TOKEN"]
    assert result.verdict is Verdict.WRONG_ANSWER
    seen = "import os\nassert not set(os.listdir('/')) & {'etc', 'home', 'proc', 'sys', 'var', 'run', 'boot', 'mnt'}\nassert 'SECRET_TOKEN' not in os.environ"
    assert all(pool.judge_now(Solution(source=seen), [StdioTest(stdin="", stdout="")]).passed)


@pytest.mark.skipif(os.geteuid() != 0, reason="slots have uids of their own under root")
def test_programs_run_under_the_slots_uid() -> None:
    with JudgePool(JudgeConfig(num_slots=1)) as pool:
        source = "import os\nprint(0 in os.getresuid() + os.getresgid(), os.getgroups())"
        result = pool.judge_now(Solution(source=source), [StdioTest(stdin="", stdout="False []")])
        assert all(result.passed), result


def test_a_sandbox_that_dies_is_a_judge_fault_after_a_second_try(
    pool: JudgePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox is killed in the middle of a test: once is made good, always is a fault, never a wrong answer."""
    solution, test = Solution(source="import time\ntime.sleep(0.3)\nprint(1)"), StdioTest(stdin="", stdout="1")
    original, killed, times = Sandbox.run, [], 1

    def run(self: Sandbox, do: str, message: dict, fds: list[int]) -> SandboxOutcome:
        if do == "test" and len(killed) < times:
            killed.append(threading.Timer(0.1, self._process.kill))
            killed[-1].start()
        return original(self, do, message, fds)

    monkeypatch.setattr(Sandbox, "run", run)
    assert pool.judge_now(solution, [test]).verdict is Verdict.ACCEPTED
    times = 9
    assert pool.judge_now(solution, [test]).verdict is Verdict.JUDGE_FAULT
    monkeypatch.undo()
    assert_alive(pool)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's sandboxes are of this kind in every test above")
def test_user_namespaces_hold_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox of an ordinary user: all attacks at once."""
    find = find_host
    monkeypatch.setattr("megatron_mimo.judge.pool.find_host", lambda config: replace(find(config), is_root=False))
    test = StdioTest(stdin="", stdout=SECRET)
    # A thread bomb needs another uid than root's, which this stand-in lacks.
    sources = {name: source for name, source in CONTAINED.items() if name not in ("thread bomb", "close everything")}
    with JudgePool(JudgeConfig(num_slots=2)) as pool:
        futures = {
            name: pool.submit(JudgeRequest(solution=Solution(source=source), tests=[test], limits=LIMITS))
            for name, source in sources.items()
        }
        verdicts = {name: future.result().verdict for name, future in futures.items()}
        assert_alive(pool)
    harmless = {"signals to the parent"}
    bad = (Verdict.ACCEPTED, Verdict.JUDGE_FAULT, Verdict.WRONG_ANSWER)
    assert not {name: verdict for name, verdict in verdicts.items() if verdict in bad and name not in harmless}
