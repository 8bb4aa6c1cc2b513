"""Tokens a second of one training step on CPU, beside a Transformers loop and megatron-core's stock local layers.

    python benchmarks/pretrain_step.py [--threads 1] [--rounds 3]

Every case is the nano model in bf16 with fp32 gradients and AdamW states, on the same threads, in a process of its own;
rounds go through all cases in turn, so that a noisy machine disturbs all of them alike, and the best round counts.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[1]
WARM_UP_STEPS, STEPS = 2, 6
CASES = {
    "ours": ("ours, no MTP, S=256", 256, 8),
    "transformers": ("Transformers Qwen2ForCausalLM, autocast, S=256", 256, 8),
    "transformers_bf16": ("Transformers, weights and AdamW in bf16, S=256", 256, 8),
    "ours_mtp": ("ours with one MTP layer, S=256", 256, 8),
    "ours_long": ("ours, no MTP, S=2048", 2048, 1),
    "stock_long": ("megatron-core local spec, no MTP, S=2048", 2048, 1),
    "stock_long_kept": ("the same, freed memory kept as ours does", 2048, 1),
}
"""Name -> what it is, sequence length, sequences a step."""


def nano_model(mtp_num_layers: int):
    from megatron_mimo.config import PretrainConfig, load

    model = load(PretrainConfig, [str(ROOT / "examples/nano/pretrain.yaml")]).model
    model.mtp_num_layers = mtp_num_layers
    return model


def rows(s: int, b: int, vocab_size: int) -> torch.Tensor:
    return torch.randint(0, vocab_size, (b, s + 1), generator=torch.Generator().manual_seed(0))


def megatron_step(s: int, b: int, mtp_num_layers: int, stock: bool, keep_memory: bool) -> Callable[[], None]:
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
    if keep_memory:
        cpu.keep_freed_memory()
    seed_everything(0)
    model, precision = nano_model(mtp_num_layers), PrecisionConfig(dtype="bf16")
    chunks = build.build_model(model, ParallelConfig(), precision, s, 10000)
    initialize_weights(chunks, model, seed=0)
    if stock:
        chunks = [stock_model(chunks[0].config, model.vocab_size, s)]
    chunks = wrap_data_parallel(chunks)
    optimizer = build_optimizer(chunks, OptimizerConfig(), precision)
    step = TrainStep(chunks, 1 + mtp_num_layers, 1)
    batch = make_batch(
        {"tokens": rows(s, b, model.vocab_size), "source": torch.zeros(b, dtype=torch.long)},
        mtp_num_layers,
        0,
        "ignore",
    )

    def run() -> None:
        optimizer.zero_grad()
        set_learning_rate(optimizer, 1e-3)
        step.backward(iter([batch]), 1, (b, s))
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


def transformers_step(s: int, b: int, autocast: bool) -> Callable[[], None]:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    m = nano_model(0)
    config = Qwen2Config(
        num_hidden_layers=m.num_layers,
        hidden_size=m.hidden_size,
        intermediate_size=m.ffn_hidden_size,
        num_attention_heads=m.num_attention_heads,
        num_key_value_heads=m.num_query_groups,
        vocab_size=m.vocab_size,
        rms_norm_eps=m.layernorm_epsilon,
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = Qwen2ForCausalLM(config).train()
    if not autocast:
        model = model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = rows(s, b, m.vocab_size)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(tokens[:, :-1]).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def measure(case: str, threads: int) -> float:
    """Tokens a second of the fastest step after warm-up."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    _, s, b = CASES[case]
    if case.startswith("transformers"):
        return s * b / fastest_step_seconds(transformers_step(s, b, autocast=case == "transformers"))
    from megatron_mimo.model.build import single_process_group

    with single_process_group():
        run = megatron_step(
            s, b, int(case == "ours_mtp"), stock=case.startswith("stock"), keep_memory=case != "stock_long"
        )
        return s * b / fastest_step_seconds(run)


def fastest_step_seconds(run: Callable[[], None]) -> float:
    seconds = []
    for _ in range(WARM_UP_STEPS + STEPS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds[WARM_UP_STEPS:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=CASES, help="measure one case and print JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.threads)))
        return
    best = dict.fromkeys(CASES, 0.0)
    for number in range(options.rounds):
        for case in CASES:
            print(f"round {number + 1} of {options.rounds}: {case}", file=sys.stderr)
            command = [sys.executable, "-W", "ignore", __file__, "--case", case, "--threads", str(options.threads)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            best[case] = max(best[case], json.loads(output.splitlines()[-1]))
    print_table(best)


def print_table(best: dict[str, float]) -> None:
    print(f"{'case':<52}{'tokens/s':>10}{'ours is':>10}")
    for case, (title, s, _) in CASES.items():
        ours = best["ours" if s == 256 else "ours_long"]
        print(f"{title:<52}{best[case]:>10,.0f}{ours / best[case]:>9.2f}x")


if __name__ == "__main__":
    main()
