"""One MTP layer that drafts several tokens: each draft step reads the layer's own output of the step before.

This is how vLLM and SGLang draft with a single layer, and how FastMTP trains it (arXiv 2509.18362). Step 1 at position
j reads the main model's state of j and the token at j + 1, and predicts the token at j + 2. Step k at position j reads
the output of step k - 1 at position j - 1 instead of the main model's state, and the same token; a draft of k tokens
that begins at position i is step 1 at i, step 2 at i + 1, ..., step k at i + k - 1.

Training computes step k for all positions at once. While drafting, step k sees in the key/value cache what step 1 left
there up to position i, and what its own draft's steps 2 to k left after it; the mask below says the same.

Shapes: `s`equence, `b`atch, `h`idden, `K` draft steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.model.torch_layers import GroupedQueryAttention


class RecallingAttention(GroupedQueryAttention):
    """Attention whose calls, inside `recalling`, also see the keys and values of the calls before."""

    _earlier: list[tuple[Tensor, Tensor]] | None = None

    @contextmanager
    def recalling(self) -> Iterator[None]:
        """Calls inside are the draft steps of one pass, in order; their masks have a column block for each step."""
        self._earlier = []
        try:
            yield
        finally:
            self._earlier = None

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *args: Any, **named: Any
    ) -> Tensor:
        """As GroupedQueryAttention; attention_mask of call k inside `recalling`: bool [b, 1, s, k*s]."""
        if self._earlier is not None:
            self._earlier.append((key, value))
            keys, values = zip(*self._earlier, strict=True)
            key, value = torch.cat(keys), torch.cat(values)
        return super().forward(query, key, value, attention_mask, *args, **named)


def recursive_states(
    layer: Any,
    source: Tensor,
    next_tokens: Tensor,
    embedding: Callable[..., Tensor],
    context: dict[str, Any],
    num_steps: int,
) -> list[Tensor]:
    """Outputs of draft steps 1 to K at every position, each [s, b, h], ready for the head.

    layer: a ParallelMTPLayer with RecallingAttention; source [s, b, h]: the main model's states; next_tokens [b, s]:
    the token after each position. Step k means something where a draft can begin k - 1 positions earlier in the
    same document.
    """
    if context.get("packed_seq_params") is not None:
        raise ValueError("recursive draft steps take documents as a mask, not as the bounds of a packed row")
    visible, state = context["attention_mask"], source
    if visible is None:
        visible = torch.ones(len(source), len(source), dtype=torch.bool, device=source.device).tril()[None, None]
    states = []
    with layer.transformer_layer.self_attention.core_attention.recalling():
        for step in range(1, num_steps + 1):
            inputs = context | {"attention_mask": step_mask(visible, step)}
            state = layer(input_ids=next_tokens, hidden_states=state, embedding=embedding, **inputs)[0]
            states.append(state)
            state = torch.cat([torch.zeros_like(state[:1]), state[:-1]])
    return states


def step_mask(visible: Tensor, step: int) -> Tensor:
    """Where draft step `step` may look, bool [b, 1, s, step*s]: the keys of step 1, then those of step 2, ...

    visible: bool [b, 1, s, s], causal and inside documents. Of step 1 a position sees what lies step - 1 places back
    and before; of each later step m the one key of its own draft, step - m places back; of its own step, itself.
    """
    blocks = [visible.tril(1 - step)]
    for earlier in range(2, step + 1):
        diagonal = torch.ones_like(visible[:1]).tril(earlier - step).triu(earlier - step)
        blocks.append(diagonal.expand_as(visible))
    return torch.cat(blocks, dim=-1)
