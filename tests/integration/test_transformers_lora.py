"""An exported folder, with its own code, is fine-tuned by Transformers' Trainer with peft's LoRA."""

from pathlib import Path

import numpy as np
import pytest
import torch

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert import mimo
from megatron_mimo.convert.huggingface import check_tokenizer, write_hugging_face
from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer
from support.needs import needs

needs("peft")
pytestmark = pytest.mark.slow
MODEL = ModelConfig(
    num_layers=2, hidden_size=32, ffn_hidden_size=48, num_attention_heads=4, num_query_groups=2, kv_channels=8,
    vocab_size=384, mtp_num_layers=1,
)  # fmt: skip
LENGTH = 24


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    shapes = mimo.hugging_face_shapes(MODEL).items()
    noise = {name: torch.randn(shape, generator=generator) for name, shape in shapes}
    weights = {name: torch.ones_like(t) if "norm" in name else 0.1 * t for name, t in noise.items()}
    save_tokenizer(train_tokenizer(["some words"], vocab_size=268), tmp_path / "tokenizer")
    tokenizer = check_tokenizer(tmp_path / "tokenizer", MODEL)
    write_hugging_face(
        tmp_path / "model", MODEL, weights.items(), rotary_base=10_000, seq_length=64, tokenizer=tokenizer
    )
    return tmp_path / "model"


def load(folder: Path) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)


def counting_rows(count: int) -> list[dict[str, np.ndarray]]:
    """Sequences in which every token is the one before plus one; the first four are not learned."""
    starts = np.random.default_rng(0).integers(0, 200, count)
    rows = [start + np.arange(LENGTH) for start in starts]
    return [{"input_ids": row, "labels": np.where(np.arange(LENGTH) < 4, -100, row)} for row in rows]


def test_a_few_steps_lower_the_loss_and_the_adapter_comes_back(exported: Path, tmp_path: Path) -> None:
    import peft
    from transformers import Trainer, TrainingArguments

    base = load(exported)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    lora = peft.LoraConfig(r=8, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, lora)
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=30, per_device_train_batch_size=8, learning_rate=1e-2,
        logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, seed=0, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=counting_rows(240))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 30
    assert losses[0] == pytest.approx(np.log(MODEL.vocab_size), abs=0.5)
    assert np.mean(losses[-3:]) < losses[0] - 1
    # Nothing but the adapter has moved, and the adapter has.
    for name, tensor in model.get_base_model().state_dict().items():
        if "lora" not in name:
            torch.testing.assert_close(tensor, before[name.replace(".base_layer", "")], atol=0, rtol=0)

    tokens = torch.from_numpy(counting_rows(2)[0]["input_ids"])[None]
    with torch.no_grad():
        expected = model.eval()(tokens).logits
        model.save_pretrained(tmp_path / "adapter")
        again = peft.PeftModel.from_pretrained(load(exported), str(tmp_path / "adapter")).eval()
        torch.testing.assert_close(again(tokens).logits, expected, atol=1e-5, rtol=0)
        assert (load(exported).eval()(tokens).logits - expected).abs().max() > 0.1
        torch.testing.assert_close(again.merge_and_unload()(tokens).logits, expected, atol=1e-4, rtol=0)
