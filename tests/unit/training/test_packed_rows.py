"""Samples that share a row are learned as if each had a row of its own."""

from typing import Any

import numpy as np
import pytest
import torch

from megatron_mimo.config import ModelConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.data.chat.dataset import PackedRows
from megatron_mimo.data.chat.template import EncodedSample
from megatron_mimo.data.loading.loader import collate

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
    from megatron_mimo.training.batch import make_batch
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
            losses = chunk(batch.tokens, batch.position_ids, batch.attention_mask, batch.labels, batch.documents)
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


@pytest.mark.parametrize("cp_size", [1, 2, 4])
@pytest.mark.parametrize("attention", ["ignore", "mask", "packed"])
def test_context_parallel_ranks_share_out_rows_labels_and_masks(attention: Any, cp_size: int) -> None:
    """Each place of each row belongs to one rank, with the labels and the mask that the whole row gives it."""
    pytest.importorskip("megatron.core")
    from megatron_mimo.model.context_parallel import zigzag_positions
    from megatron_mimo.training.batch import make_batch

    samples = make_samples()
    rows = collate(
        [
            PackedRows(samples, [row], seq_length=64, pad_token_id=0)[0]
            for row in (np.array([3, 0, 2, 1]), np.array([4, 1]))
        ]
    )
    tokens, segments, learned = (rows[name].tolist() for name in ("tokens", "segments", "loss_mask"))
    seen: set[tuple[int, int]] = set()
    for rank in range(cp_size):
        batch = make_batch(dict(rows), 2, 0, attention, rank, cp_size)
        places = zigzag_positions(64, rank, cp_size).tolist()
        shape = (2, len(places))
        assert batch.loss_mask.shape == (3, *shape)
        assert batch.tokens.shape == ((1, 2 * len(places)) if attention == "packed" else shape)
        own_tokens, positions = batch.tokens.view(shape).tolist(), batch.position_ids.view(shape).tolist()
        labels, mask = batch.labels.view(3, *shape).tolist(), batch.loss_mask.tolist()
        for row in range(2):
            for index, place in enumerate(places):
                seen.add((row, place))
                assert own_tokens[row][index] == tokens[row][place]
                start = 0 if attention == "ignore" else segments[row].index(segments[row][place])
                assert positions[row][index] == place - start
                for depth in range(3):
                    target = place + 1 + depth
                    inside = target <= 64 and segments[row][target] == segments[row][place]
                    assert mask[depth][row][index] == float(inside and learned[row][target])
                    assert labels[depth][row][index] == (tokens[row][target] if target <= 64 else 0)
    assert len(seen) == 2 * 64
