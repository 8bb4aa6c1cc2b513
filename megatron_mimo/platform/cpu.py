"""megatron-core on a machine without CUDA. The one place that changes megatron-core's or torch's behaviour.

`install()` does nothing where CUDA is available. Elsewhere it answers `torch.cuda`'s bookkeeping calls for the CPU
and turns CUDA placement requests into CPU ones, so that megatron-core trains over gloo with no change of its own.
Nothing here touches numerics.
"""

import ctypes
import platform
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
SYMBOLIC_SHAPES = "torch.fx.experimental.symbolic_shapes"


class CpuPlacement(TorchFunctionMode):
    """Redirects `device="cuda"`, `.cuda()` and `pin_memory=True` to plain CPU tensors."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.Tensor.cuda:
            return args[0]
        if not kwargs:
            result = func(*args)
        else:
            device = kwargs.get("device")
            if device is not None and torch.device(device).type == "cuda":
                kwargs["device"] = CPU
            if kwargs.get("pin_memory"):
                kwargs["pin_memory"] = False
            result = func(*args, **kwargs)
        if func is torch.Tensor.type and len(args) == 1:
            # megatron-core's optimizer accepts parameters by the name of their CUDA tensor type.
            return result.replace("torch.", "torch.cuda.", 1)
        return result


_placement: CpuPlacement | None = None


def keep_compiler_out() -> None:
    """Import megatron-core without torch.compile; to be called before anything else imports megatron-core.

    megatron-core decorates its fused functions with torch.compile as it is imported, which imports torch's compiler
    (torch._dynamo and torch._inductor): 3 s of CPU time in every process. None of these functions is on the path of our
    layers on the CPU. `torch.compile` itself is as before afterwards. Called too late, or where CUDA is available, this
    changes nothing. `install` does the same for torch's optimizers.
    """
    if torch.cuda.is_available() or "megatron.core.jit" in sys.modules:
        return
    _import_distributed_tensors()
    compiler = torch.compile
    torch.compile = lambda function: function
    try:
        from megatron.core import jit

        # For the modules that are imported later.
        jit.disable_jit_fuser()
    finally:
        torch.compile = compiler


class _SymbolicShapes(ModuleType):
    """Stands for the module of that name: its functions, which import it when they are called."""

    GuardOnDataDependentSymNode = type("GuardOnDataDependentSymNode", (Exception,), {})
    """Caught where shapes are symbols, which they are nowhere here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if not name.islower():
            return getattr(import_module(SYMBOLIC_SHAPES), name)
        return lambda *args, **kwargs: getattr(import_module(SYMBOLIC_SHAPES), name)(*args, **kwargs)


def _import_distributed_tensors() -> None:
    """torch's DTensor, which megatron-core imports and we do not use, without sympy: a quarter of a start's CPU time.

    DTensor needs the module of symbolic shapes, and so sympy, where a compiler traces it.
    """
    if SYMBOLIC_SHAPES in sys.modules or not dist.is_available():
        return
    sys.modules[SYMBOLIC_SHAPES] = _SymbolicShapes(SYMBOLIC_SHAPES)
    try:
        import_module("torch.distributed.tensor")
    finally:
        del sys.modules[SYMBOLIC_SHAPES]


def install() -> None:
    """Make megatron-core usable on the CPU; idempotent, and a no-op where CUDA is available."""
    global _placement
    if torch.cuda.is_available() or _placement is not None:
        return
    keep_compiler_out()
    _keep_compiler_out_of_optimizers()
    _answer_cuda_calls()
    _map_rng_tracker()
    _use_direct_collectives()
    _placement = CpuPlacement()
    _placement.__enter__()


def _keep_compiler_out_of_optimizers() -> None:
    """torch imports its compiler when an optimizer is made, and when it steps, to tell it not to compile them."""
    for function in vars(torch.optim.Optimizer).values():
        plain: Any = getattr(function, "__wrapped__", None)
        if plain is not None:
            # Where torch._disable_dynamo keeps what it has made of the function.
            setattr(plain, "__dynamo_disable", plain)
    step: Any = getattr(torch.optim.Adam.step, "__wrapped__", None)
    if step is not None:
        # torch's own wrapper breaks the compiler's graph around this no_grad. AdamW has its step from Adam.
        torch.optim.Adam.step = torch.no_grad()(step)


def _answer_cuda_calls() -> None:
    cuda: Any = torch.cuda
    cuda.current_device = lambda: CPU
    # Its own function object for each: torch.compile's table of torch functions refuses one under two names.
    for name in ("set_device", "synchronize", "empty_cache"):
        setattr(cuda, name, lambda *_, **__: None)
    for name in ("range_push", "range_pop"):
        setattr(cuda.nvtx, name, lambda *_, **__: None)
    cuda.get_rng_state = lambda *_, **__: torch.get_rng_state()
    cuda.set_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
    cuda.manual_seed = lambda seed: torch.manual_seed(seed)
    cuda.is_current_stream_capturing = lambda: False


def _map_rng_tracker() -> None:
    import megatron.core.tensor_parallel.random as megatron_random

    tracker: Any = megatron_random
    tracker._set_cuda_rng_state = lambda state, device=-1, graph_safe=False: torch.set_rng_state(state)
    tracker._get_cuda_rng_state = lambda device="cuda", clone=False, graph_safe=False: torch.get_rng_state()


def _use_direct_collectives() -> None:
    """Exchange gradients and parameters as `reduce_scatter` and `gather` do."""
    import megatron.core.distributed.param_and_grad_buffer as buffers

    module: Any = buffers
    module.dist_reduce_scatter_func, module.dist_all_gather_func = reduce_scatter, gather


def reduce_scatter(output: Tensor, input: Tensor, op: Any = dist.ReduceOp.SUM, group: Any = None, **kw: Any) -> Any:
    """torch's reduce_scatter_tensor. Two ranks' sums that are waited for go straight to their rank, which adds them:
    gloo's own way takes several times as long. More ranks' sums depend on their order, and stay with gloo, so that
    overlapped and waited-for exchanges agree to the bit."""
    size = dist.get_world_size(group)
    if op != dist.ReduceOp.SUM or kw.get("async_op") or size > 2:
        return dist.reduce_scatter_tensor(output, input, op=op, group=group, **kw)
    if size == 1:
        return _copy(output, input)
    received = torch.empty_like(input)
    dist.all_to_all_single(received, input, group=group)
    torch.sum(received.view(2, -1), dim=0, out=output)
    return None


def gather(output: Tensor, input: Tensor, group: Any = None, **kw: Any) -> Any:
    """torch's all_gather_into_tensor; parts that are waited for go straight from each rank to every other."""
    if kw.get("async_op"):
        return dist.all_gather_into_tensor(output, input, group=group, **kw)
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    parts = output.view(size, -1)
    works: list[Any] = []
    for other in range(size):
        if other != rank:
            works += [
                dist.isend(input, group=group, group_dst=other),
                dist.irecv(parts[other], group=group, group_src=other),
            ]
    _copy(parts[rank], input)
    for work in works:
        work.wait()
    return None


def _copy(to: Tensor, source: Tensor) -> None:
    """A rank's share of a buffer is usually sent from where it belongs."""
    if to.data_ptr() != source.data_ptr():
        to.copy_(source)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones; for processes that train on the CPU.

    By default it hands large blocks back to the kernel, which clears each page again: a tenth of a small model's step,
    and half of one whose tensors are tens of megabytes. `benchmarks/pretrain_step.py` shows both.
    """
    if torch.cuda.is_available() or platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_threshold, 2**30)
    libc.mallopt(trim_threshold, 2**31 - 1)
