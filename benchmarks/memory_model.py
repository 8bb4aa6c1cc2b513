"""The planner's memory model against measured training steps: `python benchmarks/memory_model.py`.

Each row is a separate process that builds the model and optimizer as training does and runs two steps on the CPU.
"measured" is the highest sum of live tensor bytes that torch's allocator reports during the second step (weights,
gradients and optimizer states included); "resident" is the growth of the process's peak resident memory, which also
holds freed but unreturned pages and the libraries' own buffers. "predicted" is the formula of megatron-mimo plan, with
what a CPU keeps where GPUs run fused kernels.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from megatron_mimo.config import ModelConfig, OptimizerConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.plan.memory import peak_memory
from megatron_mimo.plan.workload import Workload

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training step to measure."""

    hidden_size: int
    num_layers: int
    vocab_size: int
    seq_length: int
    micro_batch_size: int
    dtype: Literal["bf16", "fp32"]
    recompute: Literal["none", "selective", "full"]
    intra_document: bool = False
    chunk_vocab: int | None = None
    """Vocabulary entries a slab of chunked heads; None keeps logits whole."""

    @property
    def name(self) -> str:
        shape = f"h{self.hidden_size} L{self.num_layers} v{self.vocab_size} s{self.seq_length} b{self.micro_batch_size}"
        options = (" mask" if self.intra_document else "") + (f" slab {self.chunk_vocab}" if self.chunk_vocab else "")
        return f"{shape} {self.dtype}{options}, recompute {self.recompute}"


def cases() -> list[Case]:
    deep: dict[str, Any] = dict(hidden_size=256, num_layers=8, vocab_size=4096, seq_length=2048, micro_batch_size=1)
    wide: dict[str, Any] = dict(hidden_size=256, num_layers=4, vocab_size=16384, seq_length=512, micro_batch_size=3)
    nano: dict[str, Any] = dict(hidden_size=192, num_layers=6, vocab_size=2048, seq_length=1024, micro_batch_size=2)
    return [
        Case(**deep, dtype="bf16", recompute="none"),
        Case(**deep, dtype="bf16", recompute="full"),
        Case(**deep, dtype="fp32", recompute="none"),
        Case(**deep, dtype="fp32", recompute="full"),
        Case(**wide, dtype="bf16", recompute="none"),
        Case(**wide, dtype="bf16", recompute="full"),
        Case(**wide, dtype="bf16", recompute="full", chunk_vocab=1024),
        Case(**wide, dtype="fp32", recompute="full", chunk_vocab=2048),
        Case(**nano, dtype="fp32", recompute="none", intra_document=True),
        Case(**nano, dtype="fp32", recompute="selective", intra_document=True),
        Case(**nano, dtype="fp32", recompute="full", intra_document=True),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", help="measure this one case (JSON) in this process; used by the benchmark itself")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(Case(**json.loads(options.case)))))
        return 0
    print(f"{'case':<58}{'predicted':>10}{'measured':>10}{'ratio':>7}{'resident':>10}  MiB")
    for case in cases():
        found = run_apart(case)
        ratio = found["predicted"] / found["measured"]
        sizes = [found[key] / MIB for key in ("predicted", "measured", "resident")]
        print(f"{case.name:<58}{sizes[0]:>10.1f}{sizes[1]:>10.1f}{ratio:>7.3f}{sizes[2]:>10.1f}", flush=True)
    return 0


def run_apart(case: Case) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise SystemExit(f"{case.name} failed:\n{finished.stderr}")
    return json.loads(finished.stdout.splitlines()[-1])


def measure(case: Case) -> dict[str, float]:
    """Bytes predicted for and measured of one step of `case`."""
    warnings.simplefilter("ignore")
    import torch

    from megatron_mimo.model.build import single_process_group
    from megatron_mimo.platform import cpu

    cpu.install()
    torch.set_num_threads(1)
    with single_process_group():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        step = build_step(case)
        step()
        gc.collect()
        resting = live_tensor_bytes()
        measured = resting + peak_growth(step)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"predicted": peak_memory(workload(case)).total, "measured": measured, "resident": resident}


def workload(case: Case) -> Workload:
    """The planner's view of `case`."""
    model = ModelConfig(
        num_layers=case.num_layers,
        hidden_size=case.hidden_size,
        ffn_hidden_size=11 * case.hidden_size // 4,
        num_attention_heads=case.hidden_size // 32,
        num_query_groups=case.hidden_size // 64,
        kv_channels=32,
        vocab_size=case.vocab_size,
    )
    return Workload(
        model=model,
        parallel=ParallelConfig(recompute=case.recompute),
        precision=PrecisionConfig(
            dtype=case.dtype,
            backend="torch",
            cross_entropy="chunked" if case.chunk_vocab else "whole",
            cross_entropy_chunk_vocab=case.chunk_vocab or 4096,
        ),
        backend="torch",
        seq_length=case.seq_length,
        micro_batch_size=case.micro_batch_size,
        global_batch_size=case.micro_batch_size,
        world_size=1,
        intra_document_attention=case.intra_document,
        device="cpu",
    )


def build_step(case: Case) -> Callable[[], None]:
    """A function that trains one step, made of the trainer's own parts."""
    import torch
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

    from megatron_mimo.model.build import build_model
    from megatron_mimo.model.initialize import initialize_weights
    from megatron_mimo.training.batch import make_batch
    from megatron_mimo.training.optimizer import (
        apply_update,
        build_optimizer,
        gradient_norm,
        set_learning_rate,
        wrap_data_parallel,
    )
    from megatron_mimo.training.step import TrainStep

    work = workload(case)
    model_parallel_cuda_manual_seed(1)
    chunks = build_model(work.model, work.parallel, work.precision, work.seq_length, 10000)
    initialize_weights(chunks, work.model, 1)
    wrapped = wrap_data_parallel(chunks)
    optimizer = build_optimizer(wrapped, OptimizerConfig(), work.precision)
    set_learning_rate(optimizer, 1e-4)
    train = TrainStep(wrapped, 1 + work.model.mtp_num_layers, 1)
    shape = (work.micro_batch_size, work.seq_length)

    def step() -> None:
        optimizer.zero_grad()
        rows = torch.randint(1, work.model.vocab_size, (shape[0], shape[1] + 1))
        source = torch.zeros(shape[0], dtype=torch.long)
        batch = make_batch({"tokens": rows, "source": source}, work.model.mtp_num_layers, 0, work.document_attention)
        train.backward(iter([batch]), 1, shape)
        apply_update(optimizer, gradient_norm(optimizer), 1.0)

    return step


def live_tensor_bytes() -> int:
    """Bytes of all tensors that Python can reach, each storage once."""
    import torch

    storages = {}
    for found in gc.get_objects():
        if isinstance(found, torch.Tensor) and found.device.type == "cpu":
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def peak_growth(step: Callable[[], None]) -> int:
    """Highest sum of bytes that `step` allocates and has not yet freed, from the allocator's own events."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    profiler: Any = profile.profiler
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


if __name__ == "__main__":
    sys.exit(main())
