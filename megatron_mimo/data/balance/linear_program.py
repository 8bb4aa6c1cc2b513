"""A linear program built piece by piece and solved by HiGHS (scipy): minimise costs of variables of at least 0."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array


class LinearProgram:
    """Variables and linear constraints; `solve` gives the variables' values."""

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._upper: list[float] = []
        self._rows: dict[str, list[tuple[Sequence[int], Sequence[float], float]]] = {"at most": [], "equal": []}

    def variable(self, cost: float = 0.0, upper: float = np.inf) -> int:
        """Add a variable in [0, upper] and return its number."""
        self._costs.append(cost)
        self._upper.append(upper)
        return len(self._costs) - 1

    def at_most(self, variables: Sequence[int], factors: Sequence[float], bound: float) -> None:
        """Require sum of factor x variable <= bound."""
        self._rows["at most"].append((variables, factors, bound))

    def equal(self, variables: Sequence[int], factors: Sequence[float], value: float) -> None:
        """Require sum of factor x variable = value."""
        self._rows["equal"].append((variables, factors, value))

    def solve(self) -> np.ndarray | None:
        """Values of all variables at the least cost; None where the constraints exclude each other."""
        matrices = {}
        for kind, rows in self._rows.items():
            entries = [(row, v, f) for row, (vs, fs, _) in enumerate(rows) for v, f in zip(vs, fs, strict=True)]
            at, columns, factors = zip(*entries, strict=True) if entries else ((), (), ())
            matrix = csr_array((factors, (at, columns)), shape=(len(rows), len(self._costs)))
            matrices[kind] = (matrix, [bound for _, _, bound in rows]) if rows else (None, None)
        result = linprog(
            self._costs, *matrices["at most"], *matrices["equal"], bounds=[(0, u) for u in self._upper], method="highs"
        )
        return result.x if result.status == 0 else None
