"""From exact shares to weights of four decimals that add up to 1 and keep the epoch limits."""

import numpy as np

from megatron_mimo.data.balance.spec import Source, StageSpec

UNITS = 10_000
"""Weights are whole numbers of 1 / UNITS, which is what mixture files allow."""


def round_shares(shares: np.ndarray, stages: list[StageSpec], sources: list[Source]) -> np.ndarray:
    """Whole units by stage and source, each row adding up to UNITS: int64 [stages, sources].

    Rounds down, then gives what is left to the largest remainders of sources whose epochs allow it (of all sources of
    the stage where none does: a unit is 0.01 % of it). A source below one unit may be left out of a stage.
    """
    used = np.zeros(len(sources))
    limits = np.array([source.tokens * source.max_epochs for source in sources])
    rounded = np.zeros(shares.shape, dtype=np.int64)
    for row, stage in enumerate(stages):
        exact = shares[row] * UNITS
        rounded[row] = np.floor(exact + 1e-7)
        later = sum(
            (shares[other] * stages[other].tokens for other in range(row + 1, len(stages))), np.zeros_like(used)
        )
        for _ in range(UNITS - int(rounded[row].sum())):
            after = used + later + (rounded[row] + 1) * stage.tokens / UNITS
            remainders = np.where(exact > 0, exact - rounded[row], -np.inf)
            allowed = np.where(after <= limits * (1 + 1e-9), remainders, -np.inf)
            chosen = int(np.argmax(allowed if np.isfinite(allowed).any() else remainders))
            rounded[row, chosen] += 1
        used += rounded[row] * stage.tokens / UNITS
    return rounded
