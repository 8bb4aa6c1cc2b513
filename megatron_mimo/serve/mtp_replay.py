"""Which key/value entries of the later MTP layers a rejected draft has spoiled, and the inputs that mend them.

MTP layer d reads token i+d at position i. When step t drafts, the last positions of layers 2..k read tokens that are
still drafts; where the main model rejects one, those entries were computed from a wrong token, and they lie before the
positions that the next step computes. That step has as many rows to spare as tokens were rejected, so the entries'
inputs are put in front of its own rows: nothing grows, and the shapes stay.

Shapes: `b` requests, `n` rows (tokens of all requests in a row), `h`idden, `t` = k - 1 remembered rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tail:
    """The last t input rows of each request of a step, right-aligned."""

    requests: dict[str, int]
    """Request id -> index."""
    input_ids: Tensor
    """[b, t], what layer 1 read."""
    hidden: Tensor
    """[b, t, h], the main model's."""
    num_rows: Tensor
    """[b], how many of the t rows are filled."""

    def of(self, request_ids: list[str]) -> "Tail":
        """The tails of `request_ids`, in that order; empty ones for requests that the step did not have."""
        found = [self.requests.get(request_id, -1) for request_id in request_ids]
        index = torch.tensor(found, device=self.num_rows.device)
        num_rows = self.num_rows[index].masked_fill(index < 0, 0)
        return Tail({r: i for i, r in enumerate(request_ids)}, self.input_ids[index], self.hidden[index], num_rows)


def take_tail(
    request_ids: list[str], input_ids: Tensor, hidden: Tensor, first: Tensor, last: Tensor, size: int
) -> Tail:
    """The last `size` rows up to row `last` [b] of the requests that start at row `first` [b]."""
    offsets = torch.arange(1 - size, 1, device=last.device)
    rows = (last[:, None] + offsets).clamp(min=0)
    num_rows = (last - first + 1).clamp(max=size)
    return Tail({r: i for i, r in enumerate(request_ids)}, input_ids[rows].clone(), hidden[rows].clone(), num_rows)


@dataclass(frozen=True)
class Replay:
    """The rows of a step with each request's spoiled rows in front of its own."""

    num_replayed: Tensor
    """[b]"""
    input_ids: Tensor
    """[n]"""
    hidden: Tensor
    """[n, h]"""
    positions: Tensor
    """[n]"""
    requests: Tensor
    """[n], index of each row's request."""


def replay_rejected(
    tail: Tail, num_rejected: Tensor, query_start_loc: Tensor, input_ids: Tensor, hidden: Tensor, positions: Tensor
) -> Replay:
    """Shift each request's rows behind those that its rejected drafts spoiled.

    Of k drafts `r` were rejected: layers 2..k hold max(0, r - 1) positions whose token turned out otherwise. The rows
    that fall off the end are those of rejected drafts. `num_rejected` [b], `query_start_loc` [b + 1], rows as
    in `Replay`; a request's positions are consecutive.
    """
    size = tail.input_ids.shape[1]
    num_replayed = torch.minimum((num_rejected - 1).clamp(min=0), tail.num_rows)
    lengths = query_start_loc[1:] - query_start_loc[:-1]
    requests = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    first = query_start_loc[:-1].long()[requests]
    source = torch.arange(len(requests), device=first.device) - first - num_replayed[requests]
    own, tail_row = first + source.clamp(min=0), (size + source).clamp(0, size - 1)
    from_tail = source < 0
    return Replay(
        num_replayed,
        torch.where(from_tail, tail.input_ids[requests, tail_row], input_ids[own]),
        torch.where(from_tail[:, None], tail.hidden[requests, tail_row], hidden[own]),
        positions[first] + source,
        requests,
    )
