"""Your own rewards: `reward.function: my_rewards.py:score`.

The function takes the problem (rl/problems/problem.Problem) and the text of the response, reasoning included, and
returns a finite number, or a mapping with `reward` and perhaps `solved` and further numbers, which are kept as parts of
the reward. It may be async; one that is not runs in a thread, several at a time. Raise
`megatron_mimo.reward.router.RewardFault` where nothing can be said about the response: it is asked again, and never
scored. Any other exception is an error in the function and ends the run.
"""

import asyncio
import importlib.util
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_mimo.config import ConfigError, UserError


@dataclass(frozen=True, kw_only=True)
class OwnScore:
    """What your own function said."""

    reward: float
    solved: bool
    parts: dict[str, float] = field(default_factory=dict)


class OwnReward:
    """A loaded function; `await own(problem, response)`."""

    def __init__(self, place: str, key: str = "reward.function") -> None:
        """place: `FILE.py:NAME`. Raises ConfigError for a file or function that does not fit; scores nothing yet."""
        self.place = place
        self.name = place.rpartition(":")[2]
        self._function = load_function(place, key)

    async def __call__(self, problem: Any, response: str) -> OwnScore:
        """Raises UserError for an answer that is no reward."""
        if inspect.iscoroutinefunction(self._function):
            answer = await self._function(problem, response)
        else:
            answer = await asyncio.to_thread(self._function, problem, response)
        return self.read(answer)

    def read(self, answer: Any) -> OwnScore:
        if isinstance(answer, bool | int | float):
            answer = {"reward": answer}
        if not isinstance(answer, Mapping) or not isinstance(answer.get("reward"), bool | int | float):
            kind = type(answer).__name__
            raise UserError(
                f"{self.place} returned {kind} {str(answer)[:80]!r}: give a number, or a mapping with `reward`"
            )
        numbers = {str(name): float(value) for name, value in answer.items() if isinstance(value, bool | int | float)}
        reward = numbers.pop("reward")
        if not all(map(math.isfinite, (reward, *numbers.values()))):
            raise UserError(f"{self.place} returned {answer}: every number must be finite")
        solved = numbers.pop("solved", None)
        return OwnScore(reward=reward, solved=reward >= 1 if solved is None else bool(solved), parts=numbers)


def load_function(place: str, key: str) -> Callable[[Any, str], Any]:
    """The function of `FILE.py:NAME`. Raises ConfigError, naming `key`."""
    path, colon, name = place.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise ConfigError(key, place, "write it as FILE.py:FUNCTION")
    if not Path(path).is_file():
        raise ConfigError(key, place, f"there is no file {Path(path).absolute()}")
    specification = importlib.util.spec_from_file_location(f"own_reward_{Path(path).stem}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(key, place, f"the file cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
        raise ConfigError(key, place, f"the file has no function {name}; it has {known or 'none'}")
    try:
        inspect.signature(function).bind("problem", "response")
    except TypeError as error:
        raise ConfigError(key, place, f"must take (problem, response): {error}") from error
    return function
