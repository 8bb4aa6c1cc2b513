"""Time, host memory and bytes of a checkpoint, at one and at four data-parallel ranks, beside megatron-core's own form.

    python benchmarks/checkpoint_save.py [--times 20] [--case NAME ...]

The model is MiMo-nano made wider, to `--times` its parameters; fp32 weights, gradients and AdamW states. A rank's share
is what it has to write: an equal part of weights and states. "memory" is how much more the rank and its writers hold at
most during a save than before, as a multiple of that share, on the rank that holds most. Four ranks need about 45 bytes
of host memory per parameter; megatron-core's own form, by which every rank collects all states, needs 100.
"""

import argparse
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from ranks import ROOT, answer, answer_of_ranks, process_group

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Case:
    """How many ranks save, and how."""

    title: str
    processes: int
    asynchronous: bool = False
    is_gathered: bool = False


CASES = {
    "dp1": Case("one rank", 1),
    "dp4": Case("four ranks", 4),
    "dp4_async": Case("four ranks, in the background", 4, asynchronous=True),
    "dp4_gathered": Case("four ranks, megatron-core's own form", 4, is_gathered=True),
}


class PeakMemory(threading.Thread):
    """The most bytes that this process and its children hold, shared ones divided, above what they held first."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first = self._now()
        self.most = self.first
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.most = max(self.most, self._now())

    def stop(self) -> int:
        self._done.set()
        self.join()
        return self.most - self.first

    def _now(self) -> int:
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        return sum(_proportional_bytes(process.pid) for process in processes)


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def nano_model(times: float) -> Any:
    """MiMo-nano with wider layers, to about `times` its parameters."""
    from megatron_mimo.config import PretrainConfig, load

    model = load(PretrainConfig, [str(ROOT / "examples/nano/pretrain.yaml")]).model
    wider = max(1, round(times**0.5))
    return replace(
        model,
        hidden_size=model.hidden_size * wider,
        ffn_hidden_size=model.ffn_hidden_size * wider,
        num_attention_heads=model.num_attention_heads * wider,
        num_query_groups=model.num_query_groups * wider,
    )


def measure(case: Case, times: float, folder: Path) -> dict[str, float]:
    """One save of a run's first state; the same answer on every rank."""
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    from megatron_mimo.config import CheckpointConfig, OptimizerConfig, ParallelConfig, PrecisionConfig
    from megatron_mimo.model.build import build_model
    from megatron_mimo.platform import cpu
    from megatron_mimo.training.checkpoint import Checkpointer
    from megatron_mimo.training.optimizer import build_optimizer, distributed_parts, wrap_data_parallel
    from megatron_mimo.training.state import Progress
    from support.records import record

    torch.set_num_threads(1)
    cpu.install()
    with process_group(case.processes):
        model, precision = nano_model(times), PrecisionConfig(dtype="fp32")
        chunks = wrap_data_parallel(build_model(model, ParallelConfig(), precision, 256, 10000))
        optimizer = build_optimizer(chunks, OptimizerConfig(), precision)
        if case.is_gathered:
            for part in distributed_parts(optimizer):
                part.__class__ = DistributedOptimizer
        options = CheckpointConfig(asynchronous=case.asynchronous)
        checkpointer = Checkpointer(folder, options, chunks, optimizer, record(model=model))
        parameters = sum(parameter.numel() for parameter in chunks[0].module.parameters())
        dist.barrier()
        memory, started = PeakMemory(), time.perf_counter()
        memory.start()
        path = checkpointer.save(Progress(step=1), {})
        blocked = time.perf_counter() - started
        checkpointer.finish_pending()
        seconds = time.perf_counter() - started
        share = 16 * parameters / case.processes
        found = {"parameters": parameters, "seconds": seconds, "blocked": blocked}
        return found | _over_ranks(memory.stop() / share, path)


def _over_ranks(memory: float, path: Path) -> dict[str, float]:
    rank, mine = dist.get_rank(), f"__{dist.get_rank()}_"
    written = sum(file.stat().st_size for file in path.glob("*.distcp") if file.name.startswith(mine))
    everybody: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, (rank, memory, written))
    sizes = [size for _, _, size in everybody]
    return {"memory": max(held for _, held, _ in everybody), "least": min(sizes), "most": max(sizes)}


def run_case(name: str, times: float) -> dict[str, float]:
    """`measure` in separate processes."""
    with tempfile.TemporaryDirectory(prefix="checkpoint_save_") as folder:
        arguments = ["--worker", folder, "--case", name, "--times", str(times)]
        return answer_of_ranks(CASES[name].processes, __file__, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=float, default=20, help="parameters, in those of MiMo-nano")
    parser.add_argument("--case", choices=CASES, action="append", help="only these; default: all")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        answer(measure(CASES[options.case[0]], options.times, options.worker))
        return
    print(f"{'case':<40}{'parameters':>12}{'seconds':>9}{'blocked':>9}{'memory':>9}{'GB per rank':>14}")
    for name in options.case or CASES:
        found = run_case(name, options.times)
        sizes = f"{found['least'] / 1e9:.2f}-{found['most'] / 1e9:.2f}"
        times = f"{found['seconds']:>9.1f}{found['blocked']:>9.1f}"
        row = f"{CASES[name].title:<40}{found['parameters'] / 1e6:>11.0f}M{times}{found['memory']:>8.2f}x{sizes:>14}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
