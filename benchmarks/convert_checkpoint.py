"""Seconds and peak memory of checkpoint conversion, both ways, beside `cp` of the same bytes.

python benchmarks/convert_checkpoint.py --folder /scratch               # MiMo-7B, 15.7 GB; needs 48 GB of disk
python benchmarks/convert_checkpoint.py --folder /scratch --size small  # 3.6 GB: a trial, whose times are not judged

A checkpoint of random bf16 weights is made file by file; then, each in its own process and from the same state of
the page cache (`sync` before each; caches dropped where the user may): cp, import, export, and `--verify`'s comparison.
At the end the exported tensors are compared with the first ones, bit by bit. cp leaves its last bytes to the page
cache, conversions force theirs to the disk: a small size that fits into memory says nothing of their ratio.
`processor s` tells a slow program from a busy machine.
"""

import argparse
import contextlib
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.compare import same_bits
from megatron_mimo.convert.huggingface import FolderSettings, check_tokenizer, convert_to_hugging_face
from megatron_mimo.convert.mimo import hugging_face_shapes
from megatron_mimo.convert.ops import Rename
from megatron_mimo.convert.safetensors_folder import HuggingFaceFolder

TOOL = Path(__file__).parents[1] / "tools" / "convert_checkpoint.py"
BAR_TIMES_CP = 2.0
BAR_PEAK_BYTES = 4_000_000_000
NUM_LAYERS = {"small": 2, "7b": 36}
"""MiMo-7B with fewer decoder layers: embeddings, the largest tensors, are the same."""


class RandomWeights:
    """bf16 weights made when they are read; the same ones each time."""

    identity = None

    def __init__(self, model: ModelConfig) -> None:
        self.shapes = hugging_face_shapes(model)

    def read_meta(self, name: str) -> Tensor:
        """Shape and number format of a tensor."""
        return torch.empty(self.shapes[name], dtype=torch.bfloat16, device="meta")

    def read(self, name: str) -> Tensor:
        """Random bits but for the exponent's highest, which keeps every value finite."""
        shape = self.shapes[name]
        words = math.prod(shape) // 4
        bits = np.random.default_rng(list(self.shapes).index(name)).integers(-(2**63), 2**63 - 1, words)
        return torch.from_numpy(bits.view(np.int16)).bitwise_and_(-0x4001).view(torch.bfloat16).view(shape)


def main() -> int:
    """Print the table; exit code 1 for a changed tensor, too much memory, or (at full size) too long a time."""
    args = _arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    source, copy, megatron, exported = (args.folder / name for name in ("source", "copy", "step_00000000", "exported"))
    for path in (source, copy, megatron, exported):
        shutil.rmtree(path, ignore_errors=True)
    try:
        total_bytes = in_a_process(make_checkpoint, source, model_config(args.size))
        rows = [("cp", *measured(["cp", "-r", str(source), str(copy)]))]
        shutil.rmtree(copy)
        convert = [sys.executable, str(TOOL)]
        paths = ["--megatron-path", str(megatron), "--hf-path"]
        rows.append(("import", *measured([*convert, "import", *paths, str(source)])))
        rows.append(("export", *measured([*convert, "export", *paths, str(exported)])))
        rows.append(("verify", *measured([*convert, "roundtrip", *paths, str(exported)])))
        identical = in_a_process(same_tensors, source, exported)
    finally:
        if not args.keep:
            for path in (source, copy, megatron, exported):
                shutil.rmtree(path, ignore_errors=True)
    report(rows, total_bytes, identical)
    slowest = max(seconds for _, seconds, _, _ in rows[1:3]) / rows[0][1]
    largest = max(peak_bytes for _, _, _, peak_bytes in rows)
    fast = args.size != "7b" or slowest <= BAR_TIMES_CP
    return 0 if identical and fast and largest < BAR_PEAK_BYTES else 1


def report(rows: list[tuple[str, float, float, int]], total_bytes: int, identical: bool) -> None:
    """Print the table."""
    print(f"\n{total_bytes / 1e9:.1f} GB of bf16 weights")
    print(f"{'':<8} {'seconds':>8} {'GB/s':>6} {'x cp':>6} {'processor s':>12} {'peak RSS, GB':>13}")
    for name, seconds, processor_seconds, peak_bytes in rows:
        rate, times_cp, peak = total_bytes / seconds / 1e9, seconds / rows[0][1], peak_bytes / 1e9
        print(f"{name:<8} {seconds:>8.1f} {rate:>6.2f} {times_cp:>6.2f} {processor_seconds:>12.1f} {peak:>13.2f}")
    print(f"exported tensors {'are identical to' if identical else 'DIFFER from'} the source's")


def model_config(size: str) -> ModelConfig:
    return ModelConfig(
        num_layers=NUM_LAYERS[size],
        hidden_size=4096,
        ffn_hidden_size=11008,
        num_attention_heads=32,
        num_query_groups=8,
        kv_channels=128,
        vocab_size=151680,
    )


def make_checkpoint(folder: Path, model: ModelConfig) -> int:
    """A Hugging Face folder with random weights and a tokenizer of one word; returns the bytes of its weights."""
    tokenizer_folder = folder.with_name("tokenizer")
    tokenizer_folder.mkdir(exist_ok=True)
    Tokenizer(WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>")).save(str(tokenizer_folder / "tokenizer.json"))
    weights = RandomWeights(model)
    ops = [Rename((name,), (name,)) for name in weights.shapes]
    settings = FolderSettings(model, 640_000, 32_768, check_tokenizer(tokenizer_folder, model))
    convert_to_hugging_face(folder, settings, ops, weights)
    shutil.rmtree(tokenizer_folder)
    return sum(weights.read_meta(name).nbytes for name in weights.shapes)


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """A program's peak memory counts that of the process which started it, so this one stays small."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measured(command: list[str]) -> tuple[float, float, int]:
    """Seconds, processor seconds and peak resident bytes of a program."""
    os.sync()
    drop_caches()
    started = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def drop_caches() -> None:
    """Every program starts with nothing in memory, if this user may ask for it."""
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")


def same_tensors(left: Path, right: Path) -> bool:
    """Names, shapes and every bit, without the conversion's mapping."""
    one, other = HuggingFaceFolder(left), HuggingFaceFolder(right)
    return one.shapes == other.shapes and all(same_bits(one.read(name), other.read(name)) for name in one.shapes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(NUM_LAYERS), default="7b")
    parser.add_argument("--folder", type=Path, required=True, help="where to write; emptied of what is written")
    parser.add_argument("--keep", action="store_true", help="leave the folders there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
