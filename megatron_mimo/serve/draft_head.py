"""The output head of a draft vocabulary: a few rows of the model's own, logits of the other tokens minus infinity.

Shapes: `n` tokens, `h`idden, `v`ocabulary, `d` tokens of the draft vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class DraftHead:
    """Computes d of v logits. The rows are a copy: an engine may pack the head itself, or cut it over ranks.

    No module on purpose: engines that load weights in place take every parameter and buffer for one of the checkpoint.
    """

    def __init__(
        self, token_ids: list[int], vocab_size: int, hidden_size: int, dtype: torch.dtype | None = None
    ) -> None:
        """On the default device, by default in the default type; `take_rows` must come before the first call."""
        self._vocab_size = vocab_size
        self._token_ids = torch.tensor(token_ids, dtype=torch.int64)
        self._rows = torch.empty(len(token_ids), hidden_size, dtype=dtype)

    def take_rows(self, head: Tensor) -> None:
        """Keep the rows of the whole output head [v, h], which may be on another device."""
        with torch.no_grad():
            self._rows.copy_(head[self._token_ids.to(head.device)])

    def __call__(self, states: Tensor) -> Tensor:
        """[n, h] -> [n, v]"""
        logits = states.new_full((len(states), self._vocab_size), float("-inf"))
        logits[:, self._token_ids] = F.linear(states, self._rows)
        return logits
