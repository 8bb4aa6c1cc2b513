"""How long new weights take from the trainer into an engine's target and MTP draft: a folder in tmpfs, or a broadcast.

    python benchmarks/gpu_weight_update.py                      # MiMo-7B's shapes; two GPUs, one sends, one runs vLLM
    python benchmarks/gpu_weight_update.py --size nano --device cpu
    python benchmarks/gpu_weight_update.py --dry-run            # what would travel; no GPU needed

The weights are random. The sender is a separate process that holds them where the trainer would; what a trainer with
several ranks does first, gathering them, is not in the times. A round of each way follows the other; the engine answers
a request after each, which is not timed.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import torch

from megatron_mimo.config import ModelConfig, PretrainConfig, UserError, load
from megatron_mimo.config.rl import EngineConfig, GenerationConfig
from megatron_mimo.convert import huggingface, mimo
from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer
from megatron_mimo.platform.network import free_port
from megatron_mimo.platform.worker_process import WorkerProcess
from megatron_mimo.rl.engine_protocol import GenerationRequest
from megatron_mimo.rl.sample import Prompt
from megatron_mimo.rl.vllm_engine import VLLMRolloutEngine, engine_environment
from megatron_mimo.rl.vllm_worker import DRAFT_NAMES
from megatron_mimo.rl.weight_broadcast import BUCKET_BYTES, MeetingPoint, WeightBroadcast

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZES = {"7b": EXAMPLES / "mimo_7b" / "pretrain.yaml", "nano": EXAMPLES / "nano" / "pretrain.yaml"}
SEQ_LENGTH = 2048
GIB = 1 << 30
LIMIT_SECONDS = 600.0


def hold_weights(model: ModelConfig, device: str, tokenizer: Path) -> Callable[[MeetingPoint | Path], bool]:
    """The trainer's end, in its own process: weights that are broadcast to a meeting point, or written."""
    place = torch.device(device, 1) if device == "cuda" else torch.device("cpu")
    shapes = mimo.hugging_face_shapes(model)
    weights = {name: 0.02 * torch.randn(shape, dtype=torch.bfloat16, device=place) for name, shape in shapes.items()}

    def send(target: MeetingPoint | Path) -> bool:
        if isinstance(target, MeetingPoint):
            WeightBroadcast(target, 0, place).send(weights.items())
        else:
            write_model(target, model, {name: tensor.cpu() for name, tensor in weights.items()}, tokenizer)
        return True

    return send


def write_model(folder: Path, model: ModelConfig, weights: dict[str, torch.Tensor], tokenizer: Path) -> None:
    files = huggingface.check_tokenizer(tokenizer, model)
    huggingface.write_hugging_face(
        folder, model, weights.items(), rotary_base=10_000, seq_length=SEQ_LENGTH, tokenizer=files
    )


async def measure(model: ModelConfig, device: str, rounds: int, root: Path) -> dict[str, list[float]]:
    """Way -> seconds of each round."""
    save_tokenizer(train_tokenizer(["some words"], vocab_size=268), root / "tokenizer")
    with closing(WorkerProcess(partial(hold_weights, model, device, root / "tokenizer"))) as trainer:

        async def send(target: MeetingPoint | Path) -> None:
            assert await asyncio.to_thread(trainer.answer, target, LIMIT_SECONDS), f"not sent in {LIMIT_SECONDS:.0f} s"

        await send(root / "start")
        config = EngineConfig(max_concurrent_requests=4, seq_length=SEQ_LENGTH, dtype="bfloat16")
        os.environ |= engine_environment(config)
        engine = VLLMRolloutEngine("engine", root / "start", config, 0)

        async def by_folder(version: int) -> None:
            await send(root / f"version_{version}")
            await engine.update_weights(root / f"version_{version}", version)

        async def by_broadcast(version: int) -> None:
            point = MeetingPoint("127.0.0.1", free_port(), 2)
            await asyncio.gather(send(point), engine.receive_weights(point, 1, version))

        ways: dict[str, Callable[[int], Awaitable[None]]] = {"folder in tmpfs": by_folder, "broadcast": by_broadcast}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        try:
            for version in range(1, 1 + 2 * rounds):
                way = list(ways)[version % 2]
                start = time.perf_counter()
                await ways[way](version)
                seconds[way].append(time.perf_counter() - start)
                prompt = Prompt(id="p", tokens=(5, 80, 17))
                settings = GenerationConfig(max_new_tokens=4)
                answer = await engine.generate(
                    GenerationRequest(id=f"{version}", prompt=prompt, settings=settings, seed=1)
                )
                assert answer.policy_version == version
                shutil.rmtree(root / f"version_{version}", ignore_errors=True)
        finally:
            engine.close()
        return seconds


def sizes_text(model: ModelConfig) -> str:
    """What travels, in bf16."""
    sizes = {name: 2 * torch.Size(shape).numel() for name, shape in mimo.hugging_face_shapes(model).items()}
    draft = sum(nbytes for name, nbytes in sizes.items() if name.startswith(DRAFT_NAMES))
    return (
        f"{len(sizes)} tensors, {sum(sizes.values()) / GIB:.2f} GiB, of which the draft reads {draft / GIB:.2f} GiB; at"
        f" least {-(-sum(sizes.values()) // BUCKET_BYTES)} broadcasts of at most {BUCKET_BYTES >> 20} MiB, the largest"
        f" tensor {max(sizes.values()) / GIB:.2f} GiB"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="a tmpfs with room for two models")
    parser.add_argument("--dry-run", action="store_true", help="print what would travel")
    options = parser.parse_args(arguments)
    model = load(PretrainConfig, [str(SIZES[options.size])]).model
    print(sizes_text(model))
    if options.dry_run:
        return 0
    if options.device == "cuda" and torch.cuda.device_count() < 2:
        print("two GPUs are needed, one for each end; or take --size nano --device cpu", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        try:
            seconds = asyncio.run(measure(model, options.device, options.rounds, Path(root)))
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
    for way, found in seconds.items():
        print(f"{way:<16} median {statistics.median(found):.3f} s  ({min(found):.3f} to {max(found):.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
