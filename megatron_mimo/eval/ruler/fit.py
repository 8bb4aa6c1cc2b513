"""The longest prompt within a budget of tokens, in two or three tokenizations of its full length."""

from collections.abc import Callable

from megatron_mimo.eval.ruler.form import CountTokens, TooSmall

MAX_STEPS = 24
CLOSE_SHARE = 500
"""A prompt that lacks less than this part of the budget is long enough."""


def longest(build: Callable[[int], str], smallest: int, budget_tokens: int, count: CountTokens) -> str:
    """The text of the largest size within the budget, `build` growing nearly evenly with the size.

    Interpolates between a size that fits and one that does not. Raises TooSmall where `smallest` does not fit.
    """
    text = build(smallest)
    first = fits = (smallest, count(text))
    if fits[1] > budget_tokens:
        raise TooSmall(f"the smallest prompt has {fits[1]} tokens, {budget_tokens} are free")
    over: tuple[int, int] | None = None
    size = 2 * smallest + 1
    for _ in range(MAX_STEPS):
        tried = build(size)
        tokens = count(tried)
        if tokens <= budget_tokens:
            fits, text = (size, tokens), tried
        else:
            over = (size, tokens)
        if budget_tokens - fits[1] <= budget_tokens // CLOSE_SHARE or (over and over[0] - fits[0] <= 1):
            break
        size = next_size(first, fits, over, budget_tokens)
    return text


def next_size(first: tuple[int, int], fits: tuple[int, int], over: tuple[int, int] | None, budget_tokens: int) -> int:
    """By the straight line through two known (size, tokens); the fixed point `first` serves while none is too large."""
    known = over or first
    slope = max((fits[1] - known[1]) / (fits[0] - known[0]), 1e-3) if fits != known else 1.0
    size = fits[0] + max(1, int((budget_tokens - fits[1]) / slope))
    return min(size, over[0] - 1) if over else size
