"""A repair of vLLM's CPU build: sampling above temperature 0 with drafts.

The rejection sampler spreads each request's temperature, top-k and top-p over the rows of its drafts. The CPU kernel
for that converts them to whole numbers and writes the result into a copy: the rows keep whatever stood in memory, and
tokens are accepted by a distribution that is not the model's (vLLM 0.32; greedy decoding does not come here).
"""

import torch
from torch import Tensor


def repair() -> None:
    """Replace the function in vLLM's sampler where it runs on a CPU. May be called again."""
    from vllm.platforms import current_platform
    from vllm.v1.sample import rejection_sampler

    if current_platform.is_cpu():
        rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens


def expand_batch_to_tokens(
    x: Tensor, cu_num_tokens: Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> Tensor:
    """[requests] values, [requests] cumulative numbers of rows -> [rows]; `replace_from` becomes `replace_to`."""
    rows = torch.diff(cu_num_tokens.long(), prepend=cu_num_tokens.new_zeros(1).long())
    values = torch.where(x == replace_from, torch.full_like(x, replace_to), x)
    return values.repeat_interleave(rows, output_size=num_tokens)
