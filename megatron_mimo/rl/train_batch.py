"""What the trainer learns from in one step: the batch's samples, cut into mini-batches, packed into rows.

A mini-batch is one gradient update and knows how many tokens it trains on; rows are its micro-batches. How samples are
packed, and rows shared out over data-parallel ranks, changes nothing about the update. Every rank computes the same
packing and takes its own rows; all rows of a mini-batch have one length, and all ranks the same number of rows, as
pipelines and collectives want it. Plain tensors, fit for pickling.

Shapes: `s` tokens of a row, `n` tokens of a sample, `D` MTP layers that are trained (0 where they are frozen).
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.config.rl import RLConfig
from megatron_mimo.model.packed_documents import PackedDocuments, pack_documents
from megatron_mimo.rl.advantage import group_advantages
from megatron_mimo.rl.sample import Prompt, Sample, SampleGroup

ROW_MULTIPLE_TOKENS = 64
"""Row lengths are rounded up to this: tensor-parallel ranks and kernels want even parts."""


@dataclass(frozen=True, kw_only=True)
class TrainSample:
    """One response that is trained on."""

    tokens: Tensor
    """int32 [n], prompt and response."""
    num_prompt_tokens: int
    rollout_logprobs: Tensor
    """fp32, the engine's, of the response."""
    advantage: float

    @property
    def num_response_tokens(self) -> int:
        return len(self.tokens) - self.num_prompt_tokens


@dataclass(frozen=True)
class MiniBatch:
    """One gradient update."""

    samples: list[TrainSample]

    @property
    def num_tokens(self) -> int:
        """Response tokens of the whole mini-batch: what Eq. 1 divides by, on every rank."""
        return sum(sample.num_response_tokens for sample in self.samples)

    def rows(
        self, row_tokens: int, data_parallel_rank: int, data_parallel_size: int, mtp_num_layers: int = 0
    ) -> "list[Row]":
        """This rank's micro-batches, of `row_tokens` tokens where no sample is longer, with labels for the MTP layers
        that are trained."""
        lengths = [len(sample.tokens) - 1 for sample in self.samples]
        assignment = balanced_rows(lengths, row_tokens, data_parallel_size)
        longest = max((sum(lengths[index] for index in row) for row in assignment), default=0)
        row_length = -(-max(longest, 1) // ROW_MULTIPLE_TOKENS) * ROW_MULTIPLE_TOKENS
        own = assignment[data_parallel_rank::data_parallel_size]
        return [pack_row([self.samples[index] for index in row], row_length, mtp_num_layers) for row in own]


@dataclass(frozen=True)
class TrainBatch:
    """The mini-batches of one step, in the order of their updates."""

    mini_batches: list[MiniBatch]

    @classmethod
    def from_groups(cls, groups: Sequence[SampleGroup], config: RLConfig) -> "TrainBatch":
        """Complete groups in the order of their launch -> mini-batches of `mini_batch_groups`, or one on-policy.

        Advantages are those of the group, whatever overlong masking then leaves out. Raises ValueError for a group that
        is not complete, an empty prompt, and samples without a log-probability for every token.
        """
        by_group = [_group_samples(group, config) for group in groups]
        size = len(groups) if config.on_policy else config.mini_batch_groups
        parts = [by_group[first : first + size] for first in range(0, len(by_group), max(size, 1))]
        return cls([MiniBatch([sample for group in part for sample in group]) for part in parts])

    @property
    def num_tokens(self) -> int:
        return sum(mini_batch.num_tokens for mini_batch in self.mini_batches)


def _group_samples(group: SampleGroup, config: RLConfig) -> list[TrainSample]:
    """The samples of one group that carry a loss."""
    if not group.complete:
        raise ValueError(f"group {group.launch_index} of prompt {group.prompt.id} is not complete")
    rewards = torch.tensor(group.rewards, dtype=torch.float64)
    advantages = group_advantages(
        rewards, torch.zeros(len(rewards), dtype=torch.int64), divide_by_std=config.divide_advantages_by_std
    )
    pairs = zip(group.finished, advantages.tolist(), strict=True)
    samples = [(sample, _train_sample(group.prompt, sample, advantage)) for sample, advantage in pairs]
    return [
        made
        for sample, made in samples
        if made.num_response_tokens and not (config.overlong_masking and sample.finish_reason == "length")
    ]


def _train_sample(prompt: Prompt, sample: Sample, advantage: float) -> TrainSample:
    if not prompt.tokens:
        raise ValueError(f"prompt {prompt.id} has no tokens: nothing predicts the first of the response")
    if len(sample.rollout_logprobs) != len(sample.tokens):
        raise ValueError(
            f"a sample of prompt {prompt.id} has {len(sample.tokens)} tokens and {len(sample.rollout_logprobs)}"
            " log-probabilities"
        )
    return TrainSample(
        tokens=torch.tensor([*prompt.tokens, *sample.tokens], dtype=torch.int32),
        num_prompt_tokens=len(prompt.tokens),
        rollout_logprobs=torch.tensor(sample.rollout_logprobs, dtype=torch.float32),
        advantage=advantage,
    )


@dataclass(frozen=True)
class Row:
    """One micro-batch: samples one behind the other, then padding; place i predicts the sample's token i+1."""

    tokens: Tensor
    """int64 [1, s]"""
    position_ids: Tensor
    """int64 [1, s], from 0 in each sample."""
    labels: Tensor
    """int64 [1+D, 1, s], the tokens 1 to 1+D places ahead, 0 beyond the sample: the form of the model's labels."""
    loss_mask: Tensor
    """fp32 [1, s], 1 where the next token belongs to a response."""
    mtp_loss_mask: Tensor
    """fp32 [D, 1, s], 1 where the token that an MTP layer predicts belongs to the same sample's response."""
    advantages: Tensor
    """fp32 [1, s]"""
    rollout_logprobs: Tensor
    """fp32 [1, s], 0 where the mask is 0."""
    documents: PackedDocuments
    """The samples, and one more where there is padding."""
    old_logprobs: Tensor | None = None
    """fp32 [1, s], the trainer's before the step's first update, where they are known."""
    reference_logprobs: Tensor | None = None
    """fp32 [1, s], of the policy that the run started from, where the loss has a KL term."""

    def to(self, move: Callable[[Any], Any]) -> "Row":
        """The same row with `move` done to its tensors and documents."""
        return replace(self, **{name: move(value) for name, value in vars(self).items()})


def pack_row(samples: Sequence[TrainSample], row_length: int, mtp_num_layers: int = 0) -> Row:
    """Samples of at most `row_length` tokens to predict together -> one row of that length."""
    row = Row(
        tokens=torch.zeros(1, row_length, dtype=torch.int64),
        position_ids=torch.zeros(1, row_length, dtype=torch.int64),
        labels=torch.zeros(1 + mtp_num_layers, 1, row_length, dtype=torch.int64),
        loss_mask=torch.zeros(1, row_length),
        mtp_loss_mask=torch.zeros(mtp_num_layers, 1, row_length),
        advantages=torch.zeros(1, row_length),
        rollout_logprobs=torch.zeros(1, row_length),
        documents=PackedDocuments([], num_rows=1),
    )
    bounds = [0]
    for sample in samples:
        start, end = bounds[-1], bounds[-1] + len(sample.tokens) - 1
        first_response = start + sample.num_prompt_tokens - 1
        row.tokens[0, start:end] = sample.tokens[:-1]
        for depth in range(min(1 + mtp_num_layers, end - start)):
            row.labels[depth, 0, start : end - depth] = sample.tokens[1 + depth :]
            if depth:
                row.mtp_loss_mask[depth - 1, 0, max(start, first_response - depth) : end - depth] = 1.0
        row.position_ids[0, start:end] = torch.arange(end - start)
        row.loss_mask[0, first_response:end] = 1.0
        row.advantages[0, first_response:end] = sample.advantage
        row.rollout_logprobs[0, first_response:end] = sample.rollout_logprobs
        bounds.append(end)
    if bounds[-1] < row_length:
        row.position_ids[0, bounds[-1] :] = torch.arange(row_length - bounds[-1])
        bounds.append(row_length)
    return replace(row, documents=pack_documents(bounds, [(0, row_length)]))


def balanced_rows(lengths: Sequence[int], row_tokens: int, multiple: int) -> list[list[int]]:
    """Indices of samples by row: rows of about equal length, a multiple of `multiple` of them, some perhaps empty.

    The longest sample goes first, each to the shortest row so far; no row is longer than `row_tokens` or the longest
    sample.
    """
    limit = max(row_tokens, max(lengths, default=0))
    number = max(1, -(-sum(lengths) // (limit * multiple))) * multiple
    while (rows := _share_out(lengths, number, limit)) is None:
        number += multiple
    return rows


def _share_out(lengths: Sequence[int], number: int, limit: int) -> list[list[int]] | None:
    """`number` rows, or None where one would pass `limit`."""
    rows: list[list[int]] = [[] for _ in range(number)]
    loads = [(0, row) for row in range(number)]
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        load, row = loads[0]
        if load + lengths[index] > limit:
            return None
        rows[row].append(index)
        heapq.heapreplace(loads, (load + lengths[index], row))
    return rows
