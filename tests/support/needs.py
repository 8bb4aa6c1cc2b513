"""Leave a test or a file out where a package is missing, without importing the package.

`pytest.importorskip` imports it, and collection reads every file in every test process: vLLM alone takes ten seconds.
"""

from importlib import import_module
from types import ModuleType

import pytest

from megatron_mimo.missing import is_installed


def needs(*packages: str) -> None:
    """Skip the file that says this at its top, or the test that says it inside, unless all packages are there."""
    for package in packages:
        if not is_installed(package):
            pytest.skip(f"needs the package {package}", allow_module_level=True)


def megatron_core(module: str) -> ModuleType:
    """megatron-core's `module`, imported as programs without CUDA do: without torch's compiler, 3 s of CPU time."""
    needs("megatron.core")
    from megatron_mimo.platform import cpu

    cpu.keep_compiler_out()
    return import_module(f"megatron.core.{module}")
