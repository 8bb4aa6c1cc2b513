"""Tokens per second of one training step on CPU, beside a Transformers loop and megatron-core's stock local layers.

    python benchmarks/pretrain_step.py [--dtype fp32] [--threads 1] [--rounds 3]

Every case is the nano model with fp32 gradients and AdamW states, in separate processes with as many threads each;
rounds go through all cases in turn, so that a noisy machine disturbs all of them alike, and the best round counts. bf16
is measured where the CPU has instructions for it. "of products" is the share of what plain matrix products of that
format reach on the same threads: the step's FLOPs count its products, with the causal half of attention.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from ranks import ROOT, answer, answer_of_ranks, process_group

WARM_UP_STEPS, STEPS = 2, 6
PRODUCT_SIZES = (256, 512, 1024)


@dataclass(frozen=True)
class Case:
    """One step: `num_microbatches` of `micro_batch_size` rows, shared out over `processes`."""

    title: str
    peer_of: str
    """The case that "ours is" compares with this one."""
    kind: Literal["ours", "stock", "transformers", "transformers_bf16"] = "ours"
    seq_length: int = 256
    micro_batch_size: int = 8
    num_microbatches: int = 1
    processes: int = 1
    mtp_num_layers: int = 0
    keep_memory: bool = True

    @property
    def tokens(self) -> int:
        return self.seq_length * self.micro_batch_size * self.num_microbatches


HALVES: dict[str, Any] = {"micro_batch_size": 4, "num_microbatches": 2, "mtp_num_layers": 1}
LONG: dict[str, Any] = {"seq_length": 2048, "micro_batch_size": 1}
CASES = {
    "ours": Case("ours, no MTP, S=256", "ours"),
    "transformers": Case("Transformers Qwen2ForCausalLM, S=256", "ours", "transformers"),
    "transformers_bf16": Case("Transformers, weights and AdamW in bf16, S=256", "ours", "transformers_bf16"),
    "ours_mtp": Case("ours with one MTP layer, S=256", "ours", mtp_num_layers=1),
    "ours_halves": Case("the same in two micro-batches", "ours_pair", **HALVES),
    "ours_pair": Case("the same, each on a process of its own", "ours_pair", processes=2, **HALVES),
    "ours_long": Case("ours, no MTP, S=2048", "ours_long", **LONG),
    "transformers_long": Case("Transformers Qwen2ForCausalLM, S=2048", "ours_long", "transformers", **LONG),
    "stock_long": Case("megatron-core local spec, no MTP, S=2048", "ours_long", "stock", keep_memory=False, **LONG),
    "stock_long_kept": Case("the same, freed memory kept as ours does", "ours_long", "stock", **LONG),
}


def nano_model(mtp_num_layers: int):
    from megatron_mimo.config import PretrainConfig, load

    model = load(PretrainConfig, [str(ROOT / "examples/nano/pretrain.yaml")]).model
    model.mtp_num_layers = mtp_num_layers
    return model


def rows(s: int, b: int, vocab_size: int) -> torch.Tensor:
    return torch.randint(0, vocab_size, (b, s + 1), generator=torch.Generator().manual_seed(0))


def megatron_step(case: Case, dtype: Any) -> Callable[[], None]:
    from megatron_mimo.config import OptimizerConfig, ParallelConfig, PrecisionConfig
    from megatron_mimo.model import build
    from megatron_mimo.model.initialize import initialize_weights
    from megatron_mimo.platform import cpu
    from megatron_mimo.training.batch import make_batch
    from megatron_mimo.training.distributed import seed_everything
    from megatron_mimo.training.optimizer import (
        apply_update,
        build_optimizer,
        gradient_norm,
        set_learning_rate,
        wrap_data_parallel,
    )
    from megatron_mimo.training.step import TrainStep

    cpu.install()
    if case.keep_memory:
        cpu.keep_freed_memory()
    seed_everything(0)
    s, b, depths = case.seq_length, case.micro_batch_size, case.mtp_num_layers
    model, precision = nano_model(depths), PrecisionConfig(dtype=dtype)
    chunks = build.build_model(model, ParallelConfig(), precision, s, 10000)
    initialize_weights(chunks, model, seed=0)
    if case.kind == "stock":
        chunks = [stock_model(chunks[0].config, model.vocab_size, s)]
    chunks = wrap_data_parallel(chunks)
    optimizer = build_optimizer(chunks, OptimizerConfig(), precision)
    step = TrainStep(chunks, 1 + depths, 1)
    data = {"tokens": rows(s, b, model.vocab_size), "source": torch.zeros(b, dtype=torch.long)}
    batch = make_batch(data, depths, 0, "ignore")
    count = case.num_microbatches // case.processes

    def run() -> None:
        optimizer.zero_grad()
        set_learning_rate(optimizer, 1e-3)
        step.backward(iter([batch] * count), count, (b, s))
        apply_update(optimizer, gradient_norm(optimizer), 1.0)

    return run


def stock_model(config, vocab_size: int, s: int):
    """megatron-core's own GPTModel with its local layers, behind our model's signature."""
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec

    class StockModel(GPTModel):
        hidden = torch.triu(torch.ones(1, 1, s, s, dtype=torch.bool), diagonal=1)

        def forward(self, tokens, position_ids, attention_mask, labels, packed_seq_params=None):
            return super().forward(tokens, position_ids, self.hidden, labels=labels[0])[None]

    return StockModel(
        dataclasses.replace(config, use_te_activation_func=False),
        get_gpt_layer_local_spec(normalization="RMSNorm"),
        vocab_size=vocab_size,
        max_sequence_length=s,
        position_embedding_type="rope",
        share_embeddings_and_output_weights=False,
    ).to(config.params_dtype)


def transformers_step(case: Case, dtype: str) -> Callable[[], None]:
    """fp32 weights and states, under autocast for bf16; or everything in bf16."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    m, in_bf16 = nano_model(0), case.kind == "transformers_bf16"
    config = Qwen2Config(
        num_hidden_layers=m.num_layers,
        hidden_size=m.hidden_size,
        intermediate_size=m.ffn_hidden_size,
        num_attention_heads=m.num_attention_heads,
        num_key_value_heads=m.num_query_groups,
        head_dim=m.kv_channels,
        vocab_size=m.vocab_size,
        rms_norm_eps=m.layernorm_epsilon,
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = Qwen2ForCausalLM(config).train().to(torch.bfloat16 if in_bf16 else torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = rows(case.seq_length, case.micro_batch_size, m.vocab_size)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16" and not in_bf16):
            logits = model(tokens[:, :-1]).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def measure(case: Case, dtype: str, threads: int) -> dict[str, float]:
    """Tokens per second of the fastest step after warm-up, and GFLOP/s of plain products at the same time."""
    from megatron_mimo.platform.number_format import product_gflops

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if case.kind.startswith("transformers"):
        seconds = fastest_step_seconds(transformers_step(case, dtype))
    else:
        with process_group(case.processes):
            seconds = fastest_step_seconds(megatron_step(case, dtype))
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    products = max(product_gflops(kind, 0.1, size) for size in PRODUCT_SIZES)
    return {"tokens_per_second": case.tokens / seconds, "products": products}


def fastest_step_seconds(run: Callable[[], None]) -> float:
    seconds = []
    for _ in range(WARM_UP_STEPS + STEPS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds[WARM_UP_STEPS:])


def run_case(name: str, dtype: str, threads: int) -> dict[str, float]:
    """`measure` in separate processes; the first one's answer."""
    arguments = ["--worker", "--case", name, "--dtype", dtype, "--threads", str(threads)]
    return answer_of_ranks(CASES[name].processes, __file__, arguments)


def main() -> None:
    from megatron_mimo.platform.number_format import best_format

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], help="default: fp32, and bf16 where the CPU has it")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=CASES, action="append", help="only these; default: all")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        answer(measure(CASES[options.case[0]], options.dtype, options.threads))
        return
    formats = [options.dtype] if options.dtype else ["fp32", *(["bf16"] if best_format().dtype == "bf16" else [])]
    for dtype in formats:
        names = [name for name in options.case or CASES if dtype == "bf16" or CASES[name].kind != "transformers_bf16"]
        print_table(dtype, options.threads, best_of_rounds(names, dtype, options.threads, options.rounds))


def best_of_rounds(names: list[str], dtype: str, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    best: dict[str, dict[str, float]] = {}
    for number in range(rounds):
        for name in names:
            print(f"{dtype}, round {number + 1} of {rounds}: {name}", file=sys.stderr)
            found = run_case(name, dtype, threads)
            best[name] = {key: max(value, best.get(name, found)[key]) for key, value in found.items()}
    return best


def print_table(dtype: str, threads: int, best: dict[str, dict[str, float]]) -> None:
    from megatron_mimo.plan.flops import training_flops_per_token

    products = max(result["products"] for result in best.values())
    print(f"{dtype}, {threads} thread(s) a process; matrix products: {products:.1f} GFLOP/s a process")
    print(f"{'case':<50}{'tokens/s':>10}{'ours is':>10}{'GFLOP/s':>10}{'of products':>13}")
    for name, result in best.items():
        case, speed = CASES[name], result["tokens_per_second"]
        ours = best.get(case.peer_of, result)["tokens_per_second"]
        rate = speed * training_flops_per_token(nano_model(case.mtp_num_layers), case.seq_length).total / 1e9
        share = rate / (products * case.processes)
        print(f"{case.title:<50}{speed:>10,.0f}{ours / speed:>9.2f}x{rate:>10.1f}{share:>13.0%}")


if __name__ == "__main__":
    main()
