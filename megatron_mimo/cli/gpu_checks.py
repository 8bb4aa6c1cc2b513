"""The checks of `megatron-mimo gpu-check`, those from which most is learnt first. Importing it takes torch and more."""

from megatron_mimo.gpu_checks import device_checks, device_paths, device_runs
from megatron_mimo.gpu_checks.device_finding import Check
from megatron_mimo.rl import device_check

CHECKS: dict[str, Check] = {
    "environment": Check("Transformer Engine and megatron-core import", "imports", device_checks.environment, 20),
    "packed": Check("documents by bounds against a mask", "losses within 1 %", device_paths.packed_documents, 30),
    "cut": Check("attention of cut rows against whole ones", "within 1 %", device_paths.cut_documents, 15),
    "kernels": Check("fused kernels against torch layers", "losses within 1 %", device_checks.kernels, 20),
    "micro_batches": Check("overlap under changing micro-batches", "within 0.1 %", device_paths.micro_batches, 20),
    "recipe": Check("the FP8 recipe against bf16", "loss within 1 %", device_paths.recommended_formats, 30),
    "recipes_slice": Check(
        "FP8 recipes against bf16, MiMo-7B width", "loss within 0.5 %", device_checks.recipes_on_slice, 30
    ),
    "checkpoints": Check("checkpoints cross between CPU and GPU", "losses within 1 %", device_runs.checkpoints, 60),
    "imported": Check("an imported folder starts a run", "losses within 1 %", device_runs.imported, 40),
    "background": Check("background save, evaluation, resume", "losses within 1 %", device_runs.background_save, 40),
    "recomputation": Check("recomputation against keeping all", "within 0.1 %", device_paths.recomputation, 15),
    "rotation": Check("RoPE at 32 768 positions", "losses within 1 %", device_paths.long_rotation, 15),
    "mtp": Check("three MTP layers, fused against torch", "losses within 1 %", device_checks.mtp, 15),
    "heads": Check("chunked heads against whole ones", "within 2 %", device_checks.chunked_heads, 10),
    "policy_head": Check("log-probabilities of RL", "within 0.02 nats", device_check.policy_head, 10),
    "lora": Check("LoRA, fused against torch", "losses within 1 %", device_paths.low_rank, 10),
    "emulation": Check("FP8 emulation against Transformer Engine", "1/4 of the rounding", device_checks.emulation, 10),
    "recipes_nano": Check(
        "FP8 recipes against bf16, nano, 200 steps", "loss within 0.5 %", device_checks.recipes_on_nano, 30
    ),
}
"""In the order in which they run. Compiling is not among them: no recipe compiles."""
