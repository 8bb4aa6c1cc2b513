"""Training speed of a MiMo-7B slice on one GPU, with the full model extrapolated from it.

    python benchmarks/gpu_pretrain.py                        # every case, a table, gpu_pretrain.json
    python benchmarks/gpu_pretrain.py --seconds 540          # what ten minutes of a lent GPU allow, first ones first
    python benchmarks/gpu_pretrain.py --only bf16,recipe --seq-lengths 8192
    python benchmarks/gpu_pretrain.py --dry-run --gpu h100   # the plan: layers that fit, FLOPs, cases; no GPU needed

The slice has MiMo-7B's true widths, vocabulary and MTP layer, and as many of its 36 layers as the memory model lets
into the GPU. FLOPs count matrix products, causal attention at half its square, backward twice forward; recomputation is
not counted. MFU is against the dense bf16 rate of the data sheet for every case, FP8 included, so that FP8 shows as a
higher MFU. The full model's tokens a second come from two slices: the time of a layer is their difference, everything
else (embedding, heads, MTP layer) is counted once. Rows of documents (about 1 000 tokens each, by their bounds, as in
real runs) are counted as if attention saw the whole row: their MFU compares with plain rows, not with their work.

Published figures of others stand under the table; they are of other models on eight H100.

`--device cpu --size nano` runs the same measuring code on a CPU, which shows that it works and nothing else.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from megatron_mimo.config import ConfigError, ModelConfig, ParallelConfig, PrecisionConfig, UserError
from megatron_mimo.config.precision import FP8Recipe
from megatron_mimo.plan.flops import training_flops_per_token
from megatron_mimo.plan.hardware import GPU, GPUS, find_gpu
from megatron_mimo.plan.memory import peak_memory
from megatron_mimo.plan.workload import Workload
from megatron_mimo.platform.files import write_json

SIZES = {
    "7b": ModelConfig(
        num_layers=36, hidden_size=4096, ffn_hidden_size=11008, num_attention_heads=32, num_query_groups=8,
        kv_channels=128, vocab_size=151680,
    ),
    "nano": ModelConfig(
        num_layers=4, hidden_size=64, ffn_hidden_size=96, num_attention_heads=4, num_query_groups=2, kv_channels=16,
        vocab_size=320,
    ),
}  # fmt: skip
SEQ_LENGTHS = {"7b": [8192, 32768], "nano": [64]}
WARM_UP_STEPS, STEPS = {"cuda": 4, "cpu": 1}, {"cuda": 10, "cpu": 2}
LIMIT_SECONDS = 600
NOT_RUN = "not yet run on a GPU"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to run a step."""

    title: str
    kind: str = "ours"
    """ours, stock (megatron-core's own model and loss on the same layers) or peer (Transformers + torch.compile)."""
    recipe: FP8Recipe = "none"
    backend: str = "transformer_engine"
    cross_entropy: str = "chunked"
    recompute: str = "none"
    mtp: bool = True
    documents: bool = False
    """Rows of several documents, kept apart by their bounds."""
    formats: dict[str, Any] = field(default_factory=dict)
    """Further settings of PrecisionConfig that only a GPU has."""


ENGINE = {"fuse_gradient_accumulation": True}
RECIPE = ENGINE | {"gradient_dtype": "bf16", "fp8_parameters": True}
CASES = {
    "documents": Case(
        title="bf16, documents, fused loss (pretrain.yaml)", cross_entropy="fused", documents=True, formats=ENGINE
    ),
    "recipe": Case(
        title="FP8 recipe, documents (pretrain_fp8.yaml)",
        recipe="tensorwise",
        cross_entropy="fused",
        documents=True,
        formats=RECIPE,
    ),
    "bf16": Case(title="bf16, fused layers, chunked heads"),
    "tensorwise": Case(title="FP8 tensorwise", recipe="tensorwise"),
    "blockwise": Case(title="FP8 blockwise", recipe="blockwise"),
    "delayed": Case(title="FP8 delayed", recipe="delayed"),
    "bf16_selective": Case(title="bf16, attention core recomputed", recompute="selective"),
    "bf16_full": Case(title="bf16, every layer recomputed", recompute="full"),
    "blockwise_full": Case(title="FP8 blockwise, every layer recomputed", recipe="blockwise", recompute="full"),
    "bf16_whole": Case(title="bf16, whole heads", cross_entropy="whole"),
    "torch": Case(title="bf16, torch layers", backend="torch"),
    "bf16_no_mtp": Case(title="bf16 without MTP, for the peers", mtp=False),
    "stock": Case(title="megatron-core's stock GPTModel, no MTP", kind="stock", cross_entropy="whole", mtp=False),
    "peer": Case(title="Transformers + torch.compile, no MTP", kind="peer", cross_entropy="whole", mtp=False),
}

"""What is worth most first."""
DOCUMENT_TOKENS = 1000
END_OF_DOCUMENT = 0
PUBLISHED = [
    ("Llama3-8B, FP8, Megatron-Bridge 25.11", 14451, 744.0, "causal attention half"),
    ("Llama3-8B, FP8, Megatron-LM's example", 13812, 800.0, "attention in full"),
    ("Llama3.1-8B, bf16, torchtitan with compile", 6667, None, ""),
    ("Llama3.1-8B, FP8, torchtitan with compile", 8532, None, ""),
]
"""Model and trainer, tokens/s and TFLOP/s a GPU, how attention is counted: eight H100, 8 192 tokens."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process measures."""

    case: str
    size: str
    seq_length: int
    num_layers: int
    device: str

    @property
    def model(self) -> ModelConfig:
        whole = SIZES[self.size]
        return replace(whole, num_layers=self.num_layers, mtp_num_layers=int(CASES[self.case].mtp))


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        if options.job:
            print(json.dumps(measure(Job(**json.loads(options.job)))))
            return 0
        cases = choose(options.only)
        gpu = find_gpu(options.gpu)
        if options.dry_run:
            print(plan_text(options, cases, gpu))
            return 0
        require_device(options.device)
        return run_all(options, cases, gpu)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", default="h100", help=f"kind of GPU, for memory and peak rate: {', '.join(GPUS)}")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--seq-lengths", type=int, nargs="+", help="default 8192 32768")
    parser.add_argument("--layers", type=int, help="layers of every slice; each case's largest when left out")
    parser.add_argument("--only", default="", help=f"cases, with commas: {', '.join(CASES)}")
    parser.add_argument("--seconds", type=float, help="start no case after so many seconds; all of them when left out")
    parser.add_argument("--json", default="gpu_pretrain.json", help="where all figures go")
    parser.add_argument("--dry-run", action="store_true", help="print the plan; no GPU needed")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def choose(only: str) -> list[str]:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(CASES)
    for name in names:
        if name not in CASES:
            raise ConfigError("--only", name, f"is no case; choose from {', '.join(CASES)}")
    return names


def require_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is visible: use --dry-run for the plan, or --device cpu --size nano")


def layers_that_fit(case: Case, size: str, seq_length: int, gpu: GPU) -> int:
    """Largest number of layers whose step the memory model puts into one GPU; 0 when not even one fits."""
    for layers in range(SIZES[size].num_layers, 0, -1):
        if peak_memory(workload(case, size, seq_length, layers)).total <= gpu.usable_memory_bytes:
            return layers
    return 0


def workload(case: Case, size: str, seq_length: int, layers: int) -> Workload:
    """The memory model's view; a peer is taken as the torch backend with whole heads."""
    backend: Any = case.backend if case.kind == "ours" else "torch"
    parallel: Any = ParallelConfig(recompute=case.recompute)  # type: ignore[arg-type]
    settings: Any = {"fp8_recipe": case.recipe, "cross_entropy": case.cross_entropy} | case.formats
    return Workload(
        model=replace(SIZES[size], num_layers=layers, mtp_num_layers=int(case.mtp)),
        parallel=parallel,
        precision=PrecisionConfig(dtype="bf16", **settings),
        backend=backend,
        seq_length=seq_length,
        micro_batch_size=1,
        global_batch_size=1,
        world_size=1,
        intra_document_attention=case.documents,
    )


def plan_text(options: argparse.Namespace, cases: list[str], gpu: GPU) -> str:
    """The table that a run fills, with what can be said before it."""
    lines = [f"{gpu.name}: {gpu.memory_bytes / 1e9:.0f} GB, {gpu.bf16_tflops} TFLOP/s dense bf16 ({gpu.source})"]
    for seq_length in options.seq_lengths or SEQ_LENGTHS[options.size]:
        flops = training_flops_per_token(SIZES[options.size], seq_length)
        lines.append(f"\n{seq_length} tokens; full model {flops.total / 1e9:.2f} GFLOP per token ({flops.convention})")
        lines.append(f"{'case':<42}{'layers':>7}{'GB':>7}{'GFLOP/token':>13}  tokens/s, TFLOP/s, MFU")
        for name in cases:
            lines.append(plan_line(CASES[name], options.size, seq_length, gpu))
    return "\n".join([*lines, *published_lines()])


def published_lines() -> list[str]:
    """Figures of others, to stand under those measured."""
    lines = ["", "published, of others, on eight H100:"]
    for title, tokens, tflops, convention in PUBLISHED:
        work = f", {tflops:g} TFLOP/s ({convention})" if tflops else ""
        lines.append(f"  {title:<44}{tokens:>8,} tokens/s a GPU{work}")
    return lines


def plan_line(case: Case, size: str, seq_length: int, gpu: GPU) -> str:
    layers = layers_that_fit(case, size, seq_length, gpu)
    if not layers:
        return f"{case.title:<42}{'none fits':>7}"
    work = workload(case, size, seq_length, layers)
    flops = training_flops_per_token(work.model, seq_length).total
    return f"{case.title:<42}{layers:>7}{peak_memory(work).total / 1e9:>7.1f}{flops / 1e9:>13.2f}  {NOT_RUN}"


def run_all(options: argparse.Namespace, cases: list[str], gpu: GPU) -> int:
    """Measure every case at every length, each in its own process; a case that fails is a row."""
    import torch

    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU: shows that this runs, nothing else"
    print(f"device: {device}\nMFU against {gpu.name}'s {gpu.bf16_tflops} TFLOP/s dense bf16, causal attention half")
    rows, end = [], time.perf_counter() + (options.seconds or float("inf"))
    for seq_length in options.seq_lengths or SEQ_LENGTHS[options.size]:
        print(f"\n{seq_length} tokens; last column: all layers, extrapolated")
        print(f"{'case':<42}{'layers':>7}{'tokens/s':>10}{'TFLOP/s':>9}{'MFU':>7}{'GB':>7}")
        for name in cases:
            row = measure_case(name, seq_length, options, gpu, end)
            rows.append(row)
            print(row_text(row), flush=True)
    print(*published_lines(), sep="\n")
    write_json(Path(options.json), {"device": device, "gpu": asdict(gpu), "rows": rows})
    print(f"\nall figures: {options.json}")
    return 0


def measure_case(
    name: str, seq_length: int, options: argparse.Namespace, gpu: GPU, end: float = float("inf")
) -> dict[str, Any]:
    """Figures of the largest slice, and the full model's speed from it and one of half its layers; none after `end`."""
    layers = options.layers or layers_that_fit(CASES[name], options.size, seq_length, gpu)
    row: dict[str, Any] = {"case": name, "title": CASES[name].title, "seq_length": seq_length, "num_layers": layers}
    if not layers:
        return row | {"error": "not even one layer fits by the memory model"}
    if time.perf_counter() >= end:
        return row | {"error": "not measured: the time was used up"}
    try:
        jobs = [
            Job(case=name, size=options.size, seq_length=seq_length, num_layers=count, device=options.device)
            for count in (layers, max(1, layers // 2))
        ]
        large, small = (run_apart(job, min(LIMIT_SECONDS, end - time.perf_counter())) for job in jobs)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return row | {"error": str(error)[-300:]}
    flops = training_flops_per_token(jobs[0].model, seq_length)
    tokens_per_second = seq_length / large["step_seconds"]
    tflops = tokens_per_second * flops.total / 1e12
    full = full_model_seconds(jobs, large, small, SIZES[options.size].num_layers)
    return row | large | {
        "tokens_per_second": tokens_per_second,
        "tflops": tflops,
        "mfu": tflops / gpu.bf16_tflops,
        "convention": flops.convention,
        "full_model_tokens_per_second": seq_length / full,
    }  # fmt: skip


def full_model_seconds(jobs: list[Job], large: dict[str, Any], small: dict[str, Any], layers: int) -> float:
    """A step of all layers on one GPU, were it large enough: a layer's time is the slices' difference."""
    added = jobs[0].num_layers - jobs[1].num_layers
    if added == 0:
        return large["step_seconds"] * layers / jobs[0].num_layers
    per_layer = (large["step_seconds"] - small["step_seconds"]) / added
    return large["step_seconds"] + (layers - jobs[0].num_layers) * per_layer


def row_text(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['title']:<42}{row['num_layers']:>7}  {row['error'].splitlines()[-1][:90]}"
    return (
        f"{row['title']:<42}{row['num_layers']:>7}{row['tokens_per_second']:>10,.0f}{row['tflops']:>9.1f}"
        f"{row['mfu']:>7.1%}{row['memory_bytes'] / 1e9:>7.1f}  {row['full_model_tokens_per_second']:,.0f} tokens/s;"
        f" forward+backward {row['backward_seconds']:.3f} s, update {row['update_seconds']:.3f} s"
    )


def run_apart(job: Job, seconds: float) -> dict[str, Any]:
    """Measure in a process of its own, which frees the GPU and cannot take the others down."""
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps(asdict(job))]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, seconds))
    if finished.returncode:
        raise RuntimeError(finished.stderr.strip() or f"exit code {finished.returncode}")
    return json.loads(finished.stdout.splitlines()[-1])


def measure(job: Job) -> dict[str, Any]:
    """Median seconds of a step and of its parts, peak memory, and the last loss."""
    import statistics

    import torch

    torch.manual_seed(0)
    rows = torch.randint(1, job.model.vocab_size, (1, job.seq_length + 1))
    if CASES[job.case].documents:
        rows[torch.rand(rows.shape) < 1 / DOCUMENT_TOKENS] = END_OF_DOCUMENT
    with runner(job, rows) as (backward, update):
        timings = []
        for number in range(WARM_UP_STEPS[job.device] + STEPS[job.device]):
            start = clock()
            loss = backward()
            middle = clock()
            update()
            if number >= WARM_UP_STEPS[job.device]:
                timings.append((clock() - start, middle - start))
        step, first = (statistics.median(column) for column in zip(*timings, strict=True))
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {
        "step_seconds": step,
        "backward_seconds": first,
        "update_seconds": step - first,
        "memory_bytes": memory,
        "loss": loss,
    }


def clock() -> float:
    """Seconds, after all work handed to the GPU is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def runner(job: Job, rows: Any) -> Iterator[tuple[Callable[[], float], Callable[[], Any]]]:
    """(forward and backward -> loss, update) of the job's case."""
    case = CASES[job.case]
    if case.kind == "peer":
        yield peer_runner(job, rows)
        return
    from megatron_mimo.training.probe import Probe, one_process

    with one_process():
        probe = Probe(
            model=job.model,
            precision=device_precision(case, job.device),
            seq_length=job.seq_length,
            parallel=ParallelConfig(recompute=case.recompute),  # type: ignore[arg-type]
            attention="packed" if case.documents else "ignore",
            end_of_document=END_OF_DOCUMENT,
            rotary_base=640000,
            learning_rate=1e-4,
            seed=None,
            make_model=(lambda: stock_model(job, case)) if case.kind == "stock" else None,
        )
        batch = probe.batch(rows)
        yield lambda: probe.backward(batch).by_depth[0], probe.update


def device_precision(case: Case, device: str) -> PrecisionConfig:
    """A CPU takes torch layers and their heads, and emulates recipes."""
    backend: Any = case.backend if device == "cuda" else "torch"
    settings: Any = {"cross_entropy": case.cross_entropy, "fp8_recipe": case.recipe}
    if device == "cuda":
        settings |= case.formats
    elif case.cross_entropy == "fused":
        settings["cross_entropy"] = "whole"
    settings["fp8_emulation"] = device == "cpu" and case.recipe != "none"
    return PrecisionConfig(dtype="bf16", backend=backend, **settings)


def stock_model(job: Job, case: Case) -> Any:
    """megatron-core's own GPTModel: its layers as its documentation has them, whole heads, behind our signature."""
    import dataclasses

    import torch
    from megatron.core.models.gpt import GPTModel, gpt_layer_specs

    from megatron_mimo.model.build import transformer_config

    on_gpu = torch.cuda.is_available()
    spec = (
        gpt_layer_specs.get_gpt_layer_with_transformer_engine_spec()
        if on_gpu
        else gpt_layer_specs.get_gpt_layer_local_spec(normalization="RMSNorm")
    )
    s = job.seq_length
    # The local layers want a mask, those of Transformer Engine know the causal one.
    hidden: Any = None if on_gpu else torch.triu(torch.ones(1, 1, s, s, dtype=torch.bool), diagonal=1)

    class StockModel(GPTModel):
        def forward(self, tokens, position_ids, attention_mask, labels, packed_seq_params=None):  # type: ignore[override]
            return super().forward(tokens, position_ids, hidden, labels=labels[0])[None]

    precision = device_precision(case, job.device)
    backend = "transformer_engine" if on_gpu else "torch"
    config = transformer_config(job.model, ParallelConfig(recompute=case.recompute), precision, backend)  # type: ignore[arg-type]
    model = StockModel(
        dataclasses.replace(config, use_te_activation_func=False),
        spec,
        vocab_size=job.model.vocab_size,
        max_sequence_length=s,
        position_embedding_type="rope",
        rotary_base=640000,
        share_embeddings_and_output_weights=False,
    )
    return model.to(device=torch.cuda.current_device(), dtype=config.params_dtype)


def peer_runner(job: Job, rows: Any) -> tuple[Callable[[], float], Callable[[], Any]]:
    """Transformers' Qwen2 (MiMo's main architecture), compiled on a GPU; bf16 weights, fp32 copies in AdamW."""
    import torch
    import torch.nn.functional as F
    from transformers import Qwen2Config, Qwen2ForCausalLM

    m = job.model
    settings: dict[str, Any] = {"attn_implementation": "sdpa"}
    config = Qwen2Config(
        vocab_size=m.vocab_size, hidden_size=m.hidden_size, intermediate_size=m.ffn_hidden_size,
        num_hidden_layers=m.num_layers, num_attention_heads=m.num_attention_heads,
        num_key_value_heads=m.num_query_groups, rms_norm_eps=m.layernorm_epsilon, tie_word_embeddings=False,
        use_cache=False, **settings,
    )  # fmt: skip
    with torch.device(job.device):
        model = Qwen2ForCausalLM(config).train()
    # fp32 weights under autocast: the same state a parameter (16 bytes) as ours.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(model) if job.device == "cuda" else model
    rows = rows.to(job.device)

    def backward() -> float:
        optimizer.zero_grad()
        with torch.autocast(job.device, torch.bfloat16):
            logits = forward(rows[:, :-1]).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        return loss.item()

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return backward, update


if __name__ == "__main__":
    sys.exit(main())
