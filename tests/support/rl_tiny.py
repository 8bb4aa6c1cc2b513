"""A tiny policy and its rollouts for tests of the RL trainer."""

import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from megatron_mimo.config import ModelConfig
from megatron_mimo.config.load import from_tree
from megatron_mimo.config.rl import RLConfig
from megatron_mimo.convert.hf_import import import_checkpoint
from megatron_mimo.convert.huggingface import check_tokenizer, write_hugging_face
from megatron_mimo.model.reference import ReferenceMiMo
from megatron_mimo.rl.sample import Prompt, Sample, SampleGroup

ROTARY_BASE = 10_000
MODEL = ModelConfig(
    num_layers=4,
    hidden_size=32,
    ffn_hidden_size=48,
    num_attention_heads=4,
    num_query_groups=2,
    kv_channels=8,
    vocab_size=320,
)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of an exported model, by name."""
    tensors: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)
    return tensors


def make_start(folder: Path, tokenizer: Path) -> Path:
    """A Hugging Face folder `hf` of random weights, and the checkpoint imported from it, whose path is returned."""
    torch.manual_seed(3)
    model = ReferenceMiMo(MODEL, ROTARY_BASE)
    for parameter in model.parameters():
        # Logits that differ, so that a step moves the ratio.
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    write_hugging_face(
        folder / "hf",
        MODEL,
        [(name, tensor.detach()) for name, tensor in model.state_dict().items()],
        rotary_base=ROTARY_BASE,
        seq_length=256,
        tokenizer=check_tokenizer(tokenizer, MODEL),
    )
    checkpoint = folder / "checkpoints" / "step_00000000"
    import_checkpoint(folder / "hf", checkpoint)
    return checkpoint


def rl_tree(start: Path, output_dir: Path, **changes: Any) -> dict[str, Any]:
    """A configuration as YAML would give it: 4 groups of 4 samples, two updates per step, fp32."""
    return {
        "name": "tiny",
        "output_dir": str(output_dir),
        "num_threads": 1,
        "model": vars(MODEL),
        "start": {"checkpoint": str(start)},
        "data": {"train": ["problems.jsonl"]},
        "rollout": {"num_groups": 4, "samples_per_prompt": 4, "generation": {"max_new_tokens": 32}},
        "num_steps": 2,
        "mini_batch_groups": 2,
        "micro_batch_tokens": 128,
        "learning_rate": 3e-3,
        # Adam divides by the gradient's size: without a floor, rounding of a tiny gradient becomes a whole step.
        "optimizer": {"adam_eps": 1e-3},
        "precision": {"dtype": "fp32"},
        "guard": {"hang_timeout_seconds": 60},
    } | changes


def rl_config(tree: dict[str, Any]) -> RLConfig:
    return from_tree(RLConfig, tree, source="tiny")


def make_groups(seed: int, number: int = 4, samples: int = 4) -> list[SampleGroup]:
    """Random prompts and responses of many lengths, some cut at the budget, log-probabilities near an engine's."""
    generator = random.Random(seed)
    groups = []
    for index in range(number):
        prompt = Prompt(id=f"{index}", tokens=tuple(generator.choices(range(290), k=generator.randrange(1, 20))))
        made = []
        for place in range(samples):
            length = generator.randrange(1, 32)
            made.append(
                Sample(
                    tokens=generator.choices(range(290), k=length),
                    rollout_logprobs=[-generator.uniform(3, 8) for _ in range(length)],
                    finish_reason="length" if generator.random() < 0.2 else "stop",
                    reward=float(place == 0 or generator.random() < 0.3),
                    solved=False,
                )
            )
        made[-1].reward = 0.25
        groups.append(SampleGroup(prompt=prompt, launch_index=index, samples=[*made]))
    return groups
