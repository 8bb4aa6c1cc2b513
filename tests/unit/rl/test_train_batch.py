"""Packing against a sample-by-sample reading of the groups."""

import itertools
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron_mimo.config import ConfigError, ModelConfig, ParallelConfig, StartConfig
from megatron_mimo.config.rl import RLConfig, RLDataConfig, RolloutConfig
from megatron_mimo.rl.sample import Prompt, Sample, SampleGroup
from megatron_mimo.rl.train_batch import Row, TrainBatch, balanced_rows

MODEL = ModelConfig(
    num_layers=2,
    hidden_size=32,
    ffn_hidden_size=48,
    num_attention_heads=4,
    num_query_groups=2,
    kv_channels=8,
    vocab_size=512,
)


def config(**changes: Any) -> RLConfig:
    settings: dict[str, Any] = {
        "name": "x",
        "output_dir": "x",
        "model": MODEL,
        "start": StartConfig(checkpoint="x"),
        "data": RLDataConfig(train=["x"]),
        "rollout": RolloutConfig(num_groups=4, samples_per_prompt=3),
        "num_steps": 1,
        "mini_batch_groups": 2,
        "micro_batch_tokens": 64,
    }
    return RLConfig(**settings | changes)


def sample(tokens: list[int], reward: float, cut: bool = False) -> Sample:
    logprobs = [-token / 100 for token in tokens]
    reason = "length" if cut else "stop"
    return Sample(tokens=tokens, rollout_logprobs=logprobs, finish_reason=reason, reward=reward, solved=reward == 1)


def groups() -> list[SampleGroup]:
    """Group g has prompt [1 + 100 g ...] and responses of lengths that differ; every token occurs once."""
    made = []
    for g in range(4):
        base = 1 + 100 * g
        prompt = Prompt(id=str(g), tokens=tuple(range(base, base + 2 + g)))
        samples = [
            sample(list(range(base + 10, base + 15)), 1.0),
            sample(list(range(base + 20, base + 29 + 10 * g)), 0.0, cut=g == 1),
            sample([base + 80], 0.5),
        ]
        made.append(SampleGroup(prompt=prompt, launch_index=g, samples=[*samples]))
    return made


def learned(rows: list[Row]) -> dict[int, tuple[int, float, float, int]]:
    """By token of a response: the token before it, advantage, the engine's log-probability, position."""
    found = {}
    for row in rows:
        for place in row.loss_mask[0].nonzero().flatten().tolist():
            label = int(row.labels[0, 0, place])
            assert label not in found, "trained on twice"
            numbers = (row.advantages[0, place].item(), row.rollout_logprobs[0, place].item())
            found[label] = (int(row.tokens[0, place]), *numbers, int(row.position_ids[0, place]))
    return found


def expected(selected: list[SampleGroup]) -> dict[int, tuple[int, float, float, int]]:
    found = {}
    for group in selected:
        rewards = torch.tensor(group.rewards)
        for one, advantage in zip(group.finished, ((rewards - rewards.mean()) / rewards.std()).tolist(), strict=True):
            whole = [*group.prompt.tokens, *one.tokens]
            for place in range(len(group.prompt.tokens), len(whole)):
                found[whole[place]] = (whole[place - 1], advantage, -whole[place] / 100, place - 1)
    return found


@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize("row_tokens", [1, 64, 4096])
def test_every_response_token_is_trained_on_once(ranks: int, row_tokens: int) -> None:
    batch = TrainBatch.from_groups(groups(), config())
    assert len(batch.mini_batches) == 2
    for index, mini_batch in enumerate(batch.mini_batches):
        by_rank = [mini_batch.rows(row_tokens, rank, ranks) for rank in range(ranks)]
        assert len({len(rows) for rows in by_rank}) == 1, "the same number of micro-batches"
        rows = [row for rows in by_rank for row in rows]
        assert len({row.tokens.shape for row in rows}) == 1 and rows[0].tokens.shape[1] % 64 == 0
        wanted = expected(groups()[2 * index : 2 * index + 2])
        found = learned(rows)
        assert found.keys() == wanted.keys() and mini_batch.num_tokens == len(wanted)
        for token, values in wanted.items():
            assert found[token] == pytest.approx(values, abs=1e-6), token


@pytest.mark.parametrize("layers", [1, 3, 50])
def test_mtp_layers_learn_every_response_token_that_is_far_enough_from_the_start(layers: int) -> None:
    """Layer d at place i reads the token d places on, and predicts the next: both of the same sample."""
    (mini_batch, _) = TrainBatch.from_groups(groups(), config()).mini_batches
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for row in mini_batch.rows(64, 0, 1, layers):
        assert row.labels.shape[0] == 1 + layers and row.mtp_loss_mask.shape == (layers, 1, row.tokens.shape[1])
        for depth, _, place in row.mtp_loss_mask.nonzero().tolist():
            read, label = int(row.labels[depth, 0, place]), int(row.labels[depth + 1, 0, place])
            assert (depth + 1, label) not in found, "trained on twice"
            found[depth + 1, label] = (int(row.tokens[0, place]), read)
    wanted = {}
    for group in groups()[:2]:
        for one in group.finished:
            whole = [*group.prompt.tokens, *one.tokens]
            for depth in range(1, 1 + layers):
                for place in range(max(len(group.prompt.tokens), depth + 1), len(whole)):
                    wanted[depth, whole[place]] = (whole[place - 1 - depth], whole[place - 1])
    assert found == wanted


def test_frozen_mtp_layers_have_no_labels() -> None:
    (mini_batch, _) = TrainBatch.from_groups(groups(), config()).mini_batches
    for row in mini_batch.rows(64, 0, 1):
        assert len(row.labels) == 1 and len(row.mtp_loss_mask) == 0


def test_attention_stays_inside_samples() -> None:
    (mini_batch, _) = TrainBatch.from_groups(groups(), config()).mini_batches
    for row in mini_batch.rows(64, 0, 1):
        (chunk,) = row.documents.chunks
        bounds = chunk.cu_seqlens_q.tolist()
        assert bounds == chunk.cu_seqlens_kv.tolist()
        assert bounds[0] == 0 and bounds[-1] == row.tokens.shape[1]
        for start, end in itertools.pairwise(bounds):
            assert row.position_ids[0, start:end].tolist() == list(range(end - start))
            prompts = {token // 100 for token in row.tokens[0, start:end].tolist()}
            assert len(prompts) == 1, "one sample, or padding"


def test_overlong_samples_leave_the_loss_but_not_the_group() -> None:
    (first, _) = TrainBatch.from_groups(groups(), config(overlong_masking=True)).mini_batches
    cut = groups()[1].finished[1]
    wanted = {token: values for token, values in expected(groups()[:2]).items() if token not in cut.tokens}
    found = learned(first.rows(64, 0, 1))
    assert found.keys() == wanted.keys() and first.num_tokens == len(wanted)
    assert all(found[token] == pytest.approx(wanted[token], abs=1e-6) for token in wanted)


def test_on_policy_is_one_update() -> None:
    (only,) = TrainBatch.from_groups(groups(), config(on_policy=True)).mini_batches
    assert learned(only.rows(64, 0, 1)).keys() == expected(groups()).keys()


def test_advantages_without_the_deviation() -> None:
    (first, _) = TrainBatch.from_groups(groups(), config(divide_advantages_by_std=False)).mini_batches
    assert {round(one.advantage, 6) for one in first.samples} == {0.5, -0.5, 0.0}


def test_pickles() -> None:
    batch = TrainBatch.from_groups(groups(), config())
    again = pickle.loads(pickle.dumps(batch))
    assert learned(again.mini_batches[1].rows(64, 0, 1)) == learned(batch.mini_batches[1].rows(64, 0, 1))


@given(st.lists(st.integers(1, 90), max_size=40), st.integers(1, 200), st.integers(1, 4))
def test_rows_hold_every_sample_once_and_none_is_too_long(lengths: list[int], row_tokens: int, multiple: int) -> None:
    rows = balanced_rows(lengths, row_tokens, multiple)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert rows and len(rows) % multiple == 0
    limit = max([row_tokens, *lengths])
    loads = [sum(lengths[index] for index in row) for row in rows]
    assert max(loads) <= limit
    # Longest first into the shortest row: Graham's bound on the fullest row.
    assert max(loads) <= sum(lengths) / len(rows) + max(lengths, default=0)


def test_what_cannot_be_trained_on_is_refused() -> None:
    no_prompt, no_logprobs, open_group = groups()[:3]
    no_prompt.prompt = Prompt(id="p")
    assert no_logprobs.samples[0] is not None
    no_logprobs.samples[0].rollout_logprobs = [0.0]
    open_group.samples[0] = None
    for group, words in ((no_prompt, "no tokens"), (no_logprobs, "log-probabilities"), (open_group, "not complete")):
        with pytest.raises(ValueError, match=words):
            TrainBatch.from_groups([group], config())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parallel": ParallelConfig(context_parallel_size=2)}, "context_parallel_size"),
        ({"parallel": ParallelConfig(tensor_model_parallel_size=3)}, "not divisible"),
        ({"start": StartConfig(checkpoint="x", train="new_mtp_layers")}, "start.train"),
        ({"data_parallel_size": 0}, "data_parallel_size"),
        ({"mtp": "detached", "model": replace(MODEL, mtp_num_layers=0)}, "no MTP layers"),
        ({"mtp_learning_rate": 1e-5}, "mtp=detached"),
        ({"mtp": "detached", "mtp_learning_rate": 0.0}, "above 0"),
    ],
)
def test_what_the_trainer_does_not_do_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(**changes)


def test_world_size() -> None:
    parallel = ParallelConfig(tensor_model_parallel_size=2, pipeline_model_parallel_size=2)
    assert config(parallel=parallel, data_parallel_size=3).trainer_world_size == 12
