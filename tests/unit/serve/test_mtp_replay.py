"""Replaying rejected drafts, against a simulation that writes each layer's inputs down position by position."""

import pytest
import torch

from megatron_mimo.serve.mtp_replay import replay_rejected, take_tail

DRAFTS = 3


@pytest.mark.parametrize("seed", range(20))
def test_every_layer_ends_with_the_true_token_at_every_position(seed: int) -> None:
    """Two requests; `seen[d][i]` is the token that layer d read last at position i, the hidden state of i is i itself.

    Layers run over a step's rows, as the proposer does: token ids move by one place from layer to layer. The main model
    accepts a random number of drafts, and wrong drafts are negative.
    """
    generator = torch.Generator().manual_seed(seed)
    names = ["long", "short"]
    true = {name: torch.randint(1, 1000, (80,), generator=generator).tolist() for name in names}
    seen = {name: [dict[int, int]() for _ in range(DRAFTS)] for name in names}
    known = {"long": 10, "short": 1}  # tokens before the one just sampled
    start, rejected, tail = dict.fromkeys(names, 0), dict.fromkeys(names, 0), None
    for step in range(8):
        order = names[:: 1 if step % 2 else -1]  # the batch's order changes
        lengths = [known[name] - start[name] + rejected[name] for name in order]
        bounds = torch.tensor([0, lengths[0], sum(lengths)])
        positions = torch.cat([torch.arange(start[n], start[n] + q) for n, q in zip(order, lengths, strict=True)])
        ids = torch.cat([torch.tensor(true[n][start[n] + 1 :][:q]) for n, q in zip(order, lengths, strict=True)])
        last = bounds[1:] - 1 - torch.tensor([rejected[name] for name in order])
        hidden = positions[:, None].float()
        if tail is not None:
            counts = torch.tensor([rejected[name] for name in order])
            replay = replay_rejected(tail.of(order), counts, bounds, ids, hidden, positions)
            ids, hidden, positions = replay.input_ids, replay.hidden, replay.positions
            last = last + replay.num_replayed
            assert bool((last < bounds[1:]).all())
        tail = take_tail(order, ids, hidden, bounds[:-1], last, DRAFTS - 1)
        accepted = {name: int(torch.randint(0, DRAFTS + 1, (1,), generator=generator)) for name in names}
        ids = ids.clone()
        for layer in range(DRAFTS):
            for request, name in enumerate(order):
                for row in range(int(bounds[request]), int(last[request]) + 1):
                    assert hidden[row, 0] == positions[row]
                    seen[name][layer][int(positions[row])] = int(ids[row])
            ids[:-1] = ids[1:].clone()
            for request, name in enumerate(order):
                right = layer < accepted[name]
                ids[last[request]] = true[name][known[name] + 1 + layer] if right else -1
        for name in names:
            start[name], rejected[name] = known[name], DRAFTS - accepted[name]
            known[name] += 1 + accepted[name]
    for name in names:
        settled = start[name] - DRAFTS
        for layer in range(DRAFTS):
            expected = {i: true[name][i + 1 + layer] for i in range(settled)}
            assert {i: token for i, token in seen[name][layer].items() if i < settled} == expected


def test_a_request_that_is_new_replays_nothing() -> None:
    tail = take_tail(["old"], torch.arange(4), torch.zeros(4, 2), torch.tensor([0]), torch.tensor([3]), size=2)
    assert tail.num_rows.tolist() == [2]
    assert tail.input_ids.tolist() == [[2, 3]]
    assert tail.of(["new", "old"]).num_rows.tolist() == [0, 2]
