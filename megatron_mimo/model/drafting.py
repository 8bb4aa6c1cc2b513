"""Drafting and verification in plain PyTorch: the oracle for every form of drafts.

Written to be read, not to be fast: every token costs a pass over the whole text. Greedy decoding throughout.

Shapes: `s`equence, `h`idden, `v`ocabulary, `K` draft steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megatron_mimo.model.reference import MTPLayer, ReferenceMiMo


@dataclass(frozen=True)
class Decoding:
    """A text that was decoded with drafts."""

    tokens: list[int]
    """New ones."""
    rounds: int
    """Steps of the main model that verified drafts."""
    accepted: list[int]
    """Rounds that accepted the first draft, the second, ..."""


@torch.no_grad()
def speculative_decode(
    model: ReferenceMiMo,
    prompt: Sequence[int],
    max_new_tokens: int,
    num_drafts: int,
    vocabulary: Tensor | None = None,
) -> Decoding:
    """Greedy decoding in rounds: draft, verify in one pass of the main model, keep the right drafts and one token more.

    vocabulary: ids that may be drafted, see `draft`.
    """
    tokens, rounds, accepted = list(prompt), 0, [0] * num_drafts
    tokens.append(_best(model, tokens)[-1])
    limit = len(prompt) + max_new_tokens
    while len(tokens) < limit:
        drafts = draft(model, tokens, num_drafts, vocabulary)
        wanted = _best(model, [*tokens, *drafts])[len(tokens) - 1 :]
        rounds += 1
        right = 0
        while right < num_drafts and drafts[right] == wanted[right]:
            accepted[right] += 1
            right += 1
        tokens += wanted[: right + 1]
    return Decoding(tokens[len(prompt) : limit], rounds, accepted)


def draft(model: ReferenceMiMo, tokens: Sequence[int], num_drafts: int, vocabulary: Tensor | None = None) -> list[int]:
    """The `num_drafts` tokens that the MTP layers expect after `tokens`, the newest of which the main model has said.

    vocabulary: int64, the ids that may be drafted; the others' logits are not computed. None: all.
    """
    if num_drafts == 0:
        return []
    if model.config.mtp_recursive_steps > 1:
        return _draft_recursively(model, tokens, num_drafts, vocabulary)
    drafts: list[int] = []
    for layer in range(num_drafts):
        states = _mtp_states(model, torch.tensor([[*tokens, *drafts]]), layer)
        drafts.append(_choose(model, states[0, len(tokens) - 2], vocabulary))
    return drafts


def recursive_logits(model: ReferenceMiMo, tokens: Tensor, num_steps: int) -> list[dict[int, Tensor]]:
    """By draft step, then position: the logits [v] of the drafts that begin at every place of `tokens` [s].

    Step k of the draft that begins at position i is at position i + k - 1, and reads the text's own tokens, as it does
    while the drafts before it are right.
    """
    found: list[dict[int, Tensor]] = [{} for _ in range(num_steps)]
    for begin in range(len(tokens) - 1):
        states = _main_states(model, tokens[None, : begin + 1])
        for step in range(num_steps):
            position = begin + step
            if position + 1 >= len(tokens):
                break
            output = _newest_output(model, states, tokens[None, 1 : position + 2])
            found[step][position] = model.lm_head(output)[0, 0]
            states = torch.cat([states, output], dim=1)
    return found


def _draft_recursively(
    model: ReferenceMiMo, tokens: Sequence[int], num_drafts: int, vocabulary: Tensor | None
) -> list[int]:
    text = list(tokens)
    states = _main_states(model, torch.tensor([text[:-1]]))
    for _ in range(num_drafts):
        output = _newest_output(model, states, torch.tensor([text[1:]]))
        text.append(_choose(model, output[0, 0], vocabulary))
        states = torch.cat([states, output], dim=1)
    return text[len(tokens) :]


def _newest_output(model: ReferenceMiMo, states: Tensor, later: Tensor) -> Tensor:
    """The layer's output [1, 1, h] at the last of the positions with `states` [1, s, h] and `later` tokens [1, s]."""
    positions = torch.arange(states.shape[1])[None]
    return _layer(model, 0).predict(states, _embedding(model, later, positions), positions, _causal(positions))[:, -1:]


def _mtp_states(model: ReferenceMiMo, tokens: Tensor, layer: int) -> Tensor:
    """Outputs [1, s - 1 - layer, h] of parallel layer `layer`, counted from 0, where its later tokens are known."""
    count = tokens.shape[1] - 1 - layer
    states, later = _main_states(model, tokens[:, :count]), tokens[:, 1 + layer :]
    positions = torch.arange(count)[None]
    embedding = _embedding(model, later, positions)
    return _layer(model, layer).predict(states, embedding, positions, _causal(positions))


def _main_states(model: ReferenceMiMo, tokens: Tensor) -> Tensor:
    positions = torch.arange(tokens.shape[1])[None]
    return model.main_states(tokens, positions, _causal(positions))[1]


def _best(model: ReferenceMiMo, tokens: Sequence[int]) -> list[int]:
    """What the main model would say after each token."""
    rows = torch.tensor([tokens])
    positions = torch.arange(len(tokens))[None]
    return model.lm_head(model.main_states(rows, positions, _causal(positions))[0])[0].argmax(-1).tolist()


def _choose(model: ReferenceMiMo, state: Tensor, vocabulary: Tensor | None) -> int:
    head = model.lm_head.weight
    if vocabulary is None:
        return int((head @ state).argmax())
    return int(vocabulary[(head[vocabulary] @ state).argmax()])


def _embedding(model: ReferenceMiMo, tokens: Tensor, positions: Tensor) -> Tensor:
    embedding = model.model.embed_tokens(tokens)
    if model.config.mtp_zero_first_embedding:
        embedding = embedding.masked_fill((positions == 0).unsqueeze(-1), 0.0)
    return embedding


def _causal(positions: Tensor) -> Tensor:
    return (positions[:, None, :, None] >= positions[:, None, None, :]).contiguous()


def _layer(model: ReferenceMiMo, index: int) -> MTPLayer:
    layer = model.model.mtp_layers[index]
    assert isinstance(layer, MTPLayer)
    return layer
