"""Sliding windows against closed forms, and the model side against a token-by-token loop."""

import json
import math

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from megatron_mimo.config import UserError
from megatron_mimo.eval.bits_per_byte import bits_per_byte, document_nats
from megatron_mimo.eval.huggingface import HuggingFaceScorer

EOD = 0


class CountingScorer:
    """Says `log p = -(ids seen before)`: a score reveals how much context a token was given."""

    def __init__(self) -> None:
        self.widest = 0

    def __call__(self, ids):
        self.widest = max(self.widest, ids.size)
        return np.tile(-np.arange(1.0, ids.shape[1]), (len(ids), 1))


def test_every_token_is_scored_once_by_an_independent_model() -> None:
    unigram = np.log(np.arange(1, 11) / 55)
    documents = [[1, 2, 3], [], [9] * 41, list(range(1, 10)) * 5]
    nats = document_nats(lambda ids: unigram[ids[:, 1:]], documents, EOD, context_tokens=8, batch_tokens=32)
    np.testing.assert_allclose(nats, [-unigram[document].sum() for document in documents])


def test_a_short_document_is_scored_in_one_piece() -> None:
    """The first token sees the end-of-document token alone, the others all tokens before them and nothing else."""
    assert document_nats(CountingScorer(), [[5] * 8], EOD, context_tokens=8) == [1 + sum(range(1, 8))]


@pytest.mark.parametrize("length", [8, 9, 12, 13, 100])
def test_a_long_document_shows_every_token_at_least_half_a_window(length: int) -> None:
    context = 8
    seen = []
    for scored in range(1, length + 1):  # difference of prefixes: the context given to the last token
        nats = [document_nats(CountingScorer(), [[5] * n], EOD, context)[0] for n in (scored - 1, scored)]
        seen.append(nats[1] - nats[0])
    assert seen[:context] == [1, *range(1, context)]
    assert min(seen[context:], default=context) >= context // 2


def test_batches_stay_within_their_size() -> None:
    scorer = CountingScorer()
    document_nats(scorer, [[1] * n for n in range(1, 60)], EOD, context_tokens=64, batch_tokens=200)
    assert 100 < scorer.widest <= 200


def test_units() -> None:
    assert bits_per_byte(3 * math.log(2), 6) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no text"):
        bits_per_byte(1.0, 0)
    with pytest.raises(ValueError, match="context of 1"):
        document_nats(CountingScorer(), [[1]], EOD, context_tokens=1)


def tiny_model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=12, initializer_range=0.3,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


@torch.inference_mode()
def token_by_token(model: Qwen2ForCausalLM, document: list[int], context: int) -> float:
    """No batch, no padding: each token from the window that the module's docstring promises."""
    nats = 0.0
    for i, token in enumerate(document):
        start = 0 if i < context else ((i - context) // (context // 2) + 1) * (context // 2)
        logits = model(torch.tensor([document[start:i] if i else [EOD]])).logits[0, -1].double()
        nats -= logits.log_softmax(-1)[token].item()
    return nats


def test_batched_model_equals_a_token_by_token_loop() -> None:
    model, rng = tiny_model(), np.random.default_rng(0)
    documents = [rng.integers(1, 50, size=n).tolist() for n in (1, 5, 11, 12, 13, 40)]
    scorer = HuggingFaceScorer(model)
    nats = document_nats(scorer, documents, EOD, scorer.context_tokens, batch_tokens=60)
    expected = [token_by_token(model, document, scorer.context_tokens) for document in documents]
    np.testing.assert_allclose(nats, expected, rtol=1e-5)


def test_names_what_is_missing_in_a_folder(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"tokenizer\.json not found"):
        HuggingFaceScorer.load(tmp_path)
