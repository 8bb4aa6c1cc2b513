"""A pytest plugin: CPU seconds of every test with all its processes, time limits by the machine's speed, leftovers.

CPU seconds say what a test costs whatever else the machine does; the durations that pytest prints do not.
"""

import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.patience import patience

SHOWN = 10
SESSION = "MEGATRON_MIMO_TEST_SESSION"
"""Set in this process and so in the environment of all that it starts, however far down."""
LEFTOVER_SECONDS = 30.0
_before = pytest.StashKey[float]()
_workers: list[float] = []
"""CPU seconds of each of xdist's processes from its start to its end, with all that it started."""


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "write the CPU seconds of every test, and when and in which process it ended, to this JSON file"
    parser.addoption("--costs", metavar="FILE", help=help)


def cpu_seconds() -> float:
    """CPU time of this process and of all that it started, ended or alive."""
    times = os.times()
    total = times.user + times.system + times.children_user + times.children_system
    for pid in _descendants(os.getpid()):
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _descendants(pid: int) -> Iterator[int]:
    """From the kernel's lists of children: psutil would look at every process of the machine, twice per test."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, children.read_text().split()):
                yield child
                yield from _descendants(child)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Before pytest-timeout looks at the item: its limit in seconds of this machine."""
    item.stash[_before] = cpu_seconds()
    marker = item.get_closest_marker("timeout")
    usual = marker.args[0] if marker else item.config.getoption("timeout") or item.config.getini("timeout")
    item.add_marker(pytest.mark.timeout(patience(float(usual))), append=False)
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    outcome = yield
    if call.when == "teardown":
        cost = {
            "cpu_seconds": cpu_seconds() - item.stash[_before],
            "ended_at": time.time(),
            "worker": os.environ.get("PYTEST_XDIST_WORKER", "main"),
        }
        outcome.get_result().user_properties.append(("cost", cost))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["cpu_seconds"] = cpu_seconds()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _workers.append(getattr(node, "workeroutput", {}).get("cpu_seconds", 0.0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The most expensive tests and files; what a module's fixture costs is in its first and last test."""
    costs = {
        report.nodeid: value
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
        for name, value in report.user_properties
        if name == "cost"
    }
    tests = Counter({test: cost["cpu_seconds"] for test, cost in costs.items()})
    files: Counter[str] = Counter()
    for test, seconds in tests.items():
        files[test.split("::")[0]] += seconds
    # What lies between the two is the import of the tests and of what they import.
    total = sum(_workers) + time.process_time() if _workers else cpu_seconds()
    terminalreporter.section(f"CPU time: {total:.0f} s, of which in tests {tests.total():.0f} s")
    for title, found in (("tests", tests), ("files", files)):
        terminalreporter.write_line(f"the {SHOWN} most expensive {title}, in CPU seconds:")
        for name, seconds in found.most_common(SHOWN):
            terminalreporter.write_line(f"{seconds:8.1f}  {name}")
    if path := terminalreporter.config.getoption("--costs"):
        Path(path).write_text(json.dumps({"total": total, "files": files, "tests": costs}, indent=1))


RAYS_FORK_SERVER = ("from multiprocessing.forkserver import main", "/ray/thirdparty_files'")


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_over() -> Iterator[None]:
    """At the end of the session: no process that a test started may still run. What is found is killed and reported."""
    os.environ[SESSION] = str(os.getpid())
    yield
    _, alive = psutil.wait_procs(leftovers(), timeout=patience(LEFTOVER_SECONDS))
    found = []
    for process in alive:
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            process.kill()
            if all(part in command for part in RAYS_FORK_SERVER):
                # Ray's processes start it for themselves; on a busy machine it outlives those that were killed.
                warnings.warn(f"Ray has left an idle fork server: {command[:300]}", RuntimeWarning, stacklevel=1)
            else:
                found.append(command[:300])
    assert not found, "processes that tests have started still ran after the last test:\n" + "\n".join(found)


def leftovers() -> list[psutil.Process]:
    """Processes of this session, without multiprocessing's two helpers of this process, which end with it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            helper = process.ppid() == os.getpid() and "multiprocessing." in " ".join(process.cmdline())
            ended = process.status() == psutil.STATUS_ZOMBIE
            if process.environ().get(SESSION) == str(os.getpid()) and not (helper or ended):
                found.append(process)
    return found
