"""Samples that share a row are learned as if each had a row of its own."""

import numpy as np
import pytest
import torch

from megatron_mimo.config import ModelConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.data.chat.dataset import PackedRows
from megatron_mimo.data.chat.template import EncodedSample
from megatron_mimo.data.loader import collate

MODEL = ModelConfig(
    num_layers=2, hidden_size=32, ffn_hidden_size=48, num_attention_heads=2, num_query_groups=1, kv_channels=16,
    vocab_size=128, mtp_num_layers=2,
)  # fmt: skip
LENGTHS = (9, 30, 2, 17, 5)


class Samples(list):
    """Stands for a SampleReader."""


def make_samples() -> Samples:
    generator = np.random.default_rng(3)
    return Samples(
        EncodedSample(generator.integers(0, 128, n).astype(np.int32), generator.random(n) < 0.6) for n in LENGTHS
    )


@pytest.mark.parametrize("attention", ["mask", "packed"])
def test_packed_and_single_rows_have_the_same_losses(attention: str) -> None:
    pytest.importorskip("megatron.core")
    from megatron.core import tensor_parallel

    from megatron_mimo.model import build
    from megatron_mimo.model.initialize import initialize_weights
    from megatron_mimo.platform import cpu
    from megatron_mimo.training.batch import make_batch, packed_documents
    from megatron_mimo.training.loss import weighted_loss_sum

    cpu.install()
    samples = make_samples()

    def loss_and_gradient(chunk: torch.nn.Module, rows: list[np.ndarray]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Masked losses of each sample [1 + D], and the gradient of the whole objective."""
        chunk.zero_grad()
        by_sample = {}
        for row in rows:
            item = PackedRows(samples, [row], seq_length=64, pad_token_id=0)[0]
            batch = make_batch(collate([item]), MODEL.mtp_num_layers, eod_token_id=0, attention=attention)
            documents = packed_documents(batch.cu_seqlens)
            losses = chunk(batch.tokens, batch.position_ids, batch.attention_mask, batch.labels, documents)
            weighted_loss_sum(losses, batch.loss_mask, 0.3).backward()
            masked = (losses * batch.loss_mask).detach()[:, 0]
            for segment, sample in enumerate(row):
                by_sample[int(sample)] = masked[:, torch.from_numpy(item["segments"][:-1] == segment)].sum(dim=1)
        gradient = torch.cat([parameter.grad.flatten() for parameter in chunk.parameters()])
        return [by_sample[number] for number in range(len(samples))], gradient

    with build.single_process_group():
        tensor_parallel.model_parallel_cuda_manual_seed(1)
        (chunk,) = build.build_model(MODEL, ParallelConfig(), PrecisionConfig(dtype="fp32"), 64, 10_000)
        initialize_weights([chunk], MODEL, seed=5)
        packed, packed_gradient = loss_and_gradient(chunk, [np.array([3, 0, 2, 1, 4])])
        single, single_gradient = loss_and_gradient(chunk, [np.array([n]) for n in range(len(LENGTHS))])
    assert all(losses[0] > 0 for losses in (packed[0], packed[1], packed[3]))
    for one, other in zip(packed, single, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(packed_gradient, single_gradient, atol=1e-4, rtol=1e-4)
