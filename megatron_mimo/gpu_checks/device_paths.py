"""Checks of the ways that every real run goes: documents in packed rows, several micro-batches, the recommended
formats.

As in device_checks.py; `on_gpu` False runs what a CPU can.
"""

from dataclasses import replace
from typing import Any

import torch
from megatron.core.transformer.enums import AttnMaskType
from torch import Tensor

from megatron_mimo.config import LoRAConfig, ParallelConfig
from megatron_mimo.gpu_checks.device_finding import (
    LOSS_BAR,
    NANO,
    NARROW,
    WIDE,
    Finding,
    difference,
    precision,
    train_curve,
)
from megatron_mimo.model.context_parallel import zigzag_ranges
from megatron_mimo.model.packed_documents import PackedDocuments, pack_documents
from megatron_mimo.training.probe import Probe, one_process


def packed_documents(on_gpu: bool) -> Finding:
    """Documents by their bounds, as all real runs have them, against torch layers with a dense mask: a layer of
    MiMo-7B."""
    model, seq_length = (WIDE, 2048) if on_gpu else (NARROW, 128)
    torch_layers = precision(on_gpu, backend="torch", cross_entropy="chunked")
    found = [
        train_curve(model, kind, 5, seq_length, 3e-4, micro_batch_size=2, attention=attention)
        for kind, attention in ((precision(on_gpu), "packed"), (torch_layers, "mask"))
    ]
    return difference(*found)


def cut_documents(on_gpu: bool) -> Finding:
    """Attention of two context-parallel ranks' queries over all keys, one after another, against that of the whole
    row."""
    device, s = ("cuda", 4096) if on_gpu else ("cpu", 128)
    with one_process():
        probe = Probe(model=NANO if on_gpu else NARROW, precision=precision(on_gpu), seq_length=s, attention="packed")
        attention: Any = probe.chunks[0].decoder.layers[0].self_attention.core_attention
        query, key, value = _operands(probe.model, s, device)
        bounds = [0, s // 8 + 1, s // 2 - 3, s]
        whole = _attend(attention, query, key, value, pack_documents(bounds, [(0, s)]))
        worst = 0.0
        for rank in range(2):
            ranges = zigzag_ranges(s, rank, 2)
            rows = torch.cat([torch.arange(*places) for places in ranges]).to(device)
            part = _attend(attention, query[rows], key, value, pack_documents(bounds, ranges))
            worst = max(worst, float((part - whole[rows]).norm() / whole[rows].norm()))
    return Finding(worst < LOSS_BAR, f"largest relative difference of a rank's context {worst:.1e}", {"worst": worst})


def _operands(model: Any, s: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    heads, groups, d = model.num_attention_heads, model.num_query_groups, model.kv_channels
    query, key, value = (torch.randn(s, 1, n, d, device=device).bfloat16() for n in (heads, groups, groups))
    return query, key, value


@torch.no_grad()
def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor, documents: PackedDocuments) -> Tensor:
    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(query.device)

    causal = AttnMaskType.causal
    return attention(query, key, value, None, causal, packed_seq_params=documents.to(moved)).float()


def micro_batches(on_gpu: bool) -> Finding:
    """Steps of 2, 4, 4, 1 micro-batches: overlapped reduction and gather against the same without overlap."""
    model, seq_length = (NANO, 256) if on_gpu else (NARROW, 64)
    found = []
    for overlap in (True, False):
        rows: list[list[float]] = []
        with one_process():
            parallel = ParallelConfig(overlap_communication=overlap)
            probe = Probe(model=model, precision=precision(on_gpu), seq_length=seq_length, parallel=parallel)
            tokens = torch.randint(
                1, model.vocab_size, (11, 1, seq_length + 1), generator=torch.Generator().manual_seed(0)
            )
            batches = iter([probe.batch(row) for row in tokens])
            for count in (2, 4, 4, 1):
                losses, norm = probe.step(*(next(batches) for _ in range(count)))
                rows.append([*losses, norm])
        found.append(rows)
    return difference(*found, bar=1e-3)


def recommended_formats(on_gpu: bool) -> Finding:
    """The recipe of examples/mimo_7b/pretrain_fp8.yaml against plain bf16: FP8 by tensor with FP8 weights, gradients in
    bf16, the fused loss, products that add to the gradient buffer, one of two layers recomputed."""
    model = replace(WIDE, num_layers=2) if on_gpu else replace(NARROW, num_layers=2)
    seq_length, steps = (2048, 12) if on_gpu else (128, 3)
    plain = train_curve(model, precision(on_gpu, cross_entropy="chunked"), steps, seq_length, 3e-4)
    formats: dict[str, Any] = {"gradient_dtype": "bf16"}
    if on_gpu:
        formats |= {"fp8_parameters": True, "cross_entropy": "fused", "fuse_gradient_accumulation": True}
    parallel = ParallelConfig(recompute="full", recompute_num_layers=1)
    fp8 = train_curve(model, precision(on_gpu, "tensorwise", **formats), steps, seq_length, 3e-4, parallel=parallel)
    means = [sum(row[0] for row in curve[-4:]) / len(curve[-4:]) for curve in (plain, fp8)]
    away = means[1] / means[0] - 1
    summary = f"bf16 {means[0]:.4f}, recommended formats {away:+.2%}"
    return Finding(abs(away) < LOSS_BAR if on_gpu else None, summary, {"plain": plain, "fp8": fp8})


def recomputation(on_gpu: bool) -> Finding:
    """Whole layers, one of two layers, and the attention core recomputed: the losses of keeping everything."""
    model, seq_length = (replace(NANO, num_layers=2), 256) if on_gpu else (replace(NARROW, num_layers=2), 64)
    kinds: list[dict[str, Any]] = [{"recompute": "full"}, {"recompute": "full", "recompute_num_layers": 1}]
    kinds.append({"recompute": "selective"})
    kept = train_curve(model, precision(on_gpu), 3, seq_length, 1e-3, attention="packed")
    found = {}
    for settings in kinds:
        parallel = ParallelConfig(**settings)
        curve = train_curve(model, precision(on_gpu), 3, seq_length, 1e-3, attention="packed", parallel=parallel)
        found[str(list(settings.values()))] = difference(curve, kept, bar=1e-3)
    failed = [name for name, finding in found.items() if not finding.passed]
    summary = f"{len(found)} ways" + (f", other losses with {', '.join(failed)}" if failed else " give the same losses")
    return Finding(not failed, summary, {name: finding.summary for name, finding in found.items()})


def low_rank(on_gpu: bool) -> Finding:
    """LoRA beside fused layers against LoRA beside torch layers."""
    model, seq_length = (NANO, 256) if on_gpu else (NARROW, 64)
    lora, kinds = LoRAConfig(rank=8), (precision(on_gpu), precision(on_gpu, backend="torch"))
    found = [train_curve(model, kind, 5, seq_length, 3e-3, lora=lora) for kind in kinds]
    return difference(*found)


def long_rotation(on_gpu: bool) -> Finding:
    """Stage 3's 32 768 positions at its RoPE base, fused against torch layers, the row one document."""
    model, seq_length = (replace(NANO, num_layers=1), 32768) if on_gpu else (NARROW, 256)
    settings: dict[str, Any] = {
        "rotary_base": 640000,
        "micro_batch_size": 1,
        "attention": "packed",
        "end_of_document": -1,
    }
    torch_layers = precision(on_gpu, backend="torch")
    found = [train_curve(model, kind, 2, seq_length, 3e-4, **settings) for kind in (precision(on_gpu), torch_layers)]
    return difference(*found)
