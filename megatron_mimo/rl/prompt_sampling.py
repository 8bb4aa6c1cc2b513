"""Which prompt comes next: a shuffled order of the data, prompts handed back, and the easy-data pool (report 3.3).

No prompt is given twice in a step while another one is left. A prompt whose samples are all solved goes into the pool;
each draw takes from the pool with probability alpha. A pool prompt that is no longer solved by all its samples returns
to the ordinary data. State is JSON: data position, pool, prompts handed back or open, random generator.
"""

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.rl.sample import Origin, Outcome, Prompt, SampleGroup


@dataclass
class DrawCounts:
    """Draws since the start of the run."""

    draws: int = 0
    with_pool: int = 0
    """Draws made while the pool had a prompt to give: the easy share is alpha of these."""
    easy: int = 0
    repeated: int = 0
    """Draws of a prompt that the step had already: the data is smaller than what a step launches."""


class EasyPool:
    """Ids of solved prompts; one that is being rolled out is not given twice at a time."""

    def __init__(self, ids: Sequence[str] = (), busy: Sequence[str] = ()) -> None:
        self.ids, self.busy = list(ids), set(busy)
        self._members = set(ids)

    def __contains__(self, identifier: str) -> bool:
        return identifier in self._members

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_free(self) -> int:
        return len(self.ids) - len(self.busy)

    def add(self, identifier: str) -> None:
        if identifier not in self._members:
            self._members.add(identifier)
            self.ids.append(identifier)

    def take(self, generator: random.Random) -> str:
        """One of the free ids, each as likely; busy until `put_back` or `remove`."""
        while True:
            identifier = self.ids[generator.randrange(len(self.ids))]
            if identifier not in self.busy:
                self.busy.add(identifier)
                return identifier

    def put_back(self, identifier: str) -> None:
        self.busy.discard(identifier)

    def remove(self, identifier: str) -> None:
        self.busy.discard(identifier)
        self._members.discard(identifier)
        self.ids.remove(identifier)


@dataclass
class PromptState:
    """Everything that changes, but the random generator."""

    epoch: int = 0
    position: int = 0
    """Prompts of this epoch's order already drawn or passed over."""
    returned: deque[str] = field(default_factory=deque)
    """Handed back, or passed over because the step had them already."""
    open: Counter[str] = field(default_factory=Counter)
    """Drawn and not settled: those of the present step."""
    pool: "EasyPool" = field(default_factory=lambda: EasyPool())
    counts: DrawCounts = field(default_factory=DrawCounts)


class PromptSampler:
    """`draw()` a prompt, and `settle(group)` every drawn one exactly once."""

    def __init__(
        self, prompts: Sequence[Prompt], *, alpha: float = 0.1, drop_solved: bool = False, seed: int = 1234
    ) -> None:
        """alpha: probability of a draw from the easy-data pool (report: 0.1); 0 keeps solved prompts in the data, or
        with `drop_solved` in a pool that nothing is drawn from."""
        if not prompts:
            raise UserError("no prompts to roll out: the problem files are empty, or the curation dropped everything")
        if not 0 <= alpha < 1:
            raise ConfigError("alpha", alpha, "must be in [0, 1)")
        self._prompts = {prompt.id: prompt for prompt in prompts}
        if len(self._prompts) != len(prompts):
            raise UserError("prompt ids are not unique: give every problem an id of its own")
        self._ids, self._alpha, self._seed = sorted(self._prompts), alpha, seed
        self._pools_solved = alpha > 0 or drop_solved
        self._random = random.Random(f"draws {seed}")
        self._state = PromptState()
        self._order = self._epoch_order(0)

    @property
    def counts(self) -> DrawCounts:
        return self._state.counts

    @property
    def pool_size(self) -> int:
        return len(self._state.pool)

    @property
    def epoch(self) -> int:
        """Passes over the data that are complete."""
        return self._state.epoch

    def draw(self) -> tuple[Prompt, Origin]:
        """The next prompt and where it came from."""
        state = self._state
        state.counts.draws += 1
        # One number a draw, pool or not, keeps the coin a function of the draws alone.
        easy = self._random.random() < self._alpha
        if state.pool.num_free:
            state.counts.with_pool += 1
            if easy:
                state.counts.easy += 1
                return self._prompts[state.pool.take(self._random)], "easy_pool"
        identifier = self._next_of_data()
        state.counts.repeated += state.open[identifier] > 0
        state.open[identifier] += 1
        return self._prompts[identifier], "data"

    def settle(self, group: SampleGroup) -> None:
        """Take note of how a drawn prompt ended (`group.outcome`).

        Aborted and surplus prompts are handed back, ahead of the rest of the data; the pool follows the pass rate of
        complete groups.
        """
        if group.outcome is None:
            raise ValueError(f"launch {group.launch_index} has not ended")
        state, identifier = self._state, group.prompt.id
        if group.origin == "data":
            state.open[identifier] -= 1
            state.open += Counter()
        if group.origin == "easy_pool":
            if group.complete and not group.all_solved:
                state.pool.remove(identifier)
            else:
                state.pool.put_back(identifier)
        elif group.complete and group.all_solved and self._pools_solved:
            state.pool.add(identifier)
        elif group.outcome in (Outcome.ABORTED, Outcome.SURPLUS):
            state.returned.append(identifier)

    def _next_of_data(self) -> str:
        """A prompt handed back, else the next of the order; one that the step has already only where all are."""
        state = self._state
        fresh = next((identifier for identifier in state.returned if not state.open[identifier]), None)
        if fresh is not None:
            state.returned.remove(fresh)
            return fresh
        if all(identifier in state.pool or state.open[identifier] for identifier in self._ids):
            return state.returned.popleft() if state.returned else self._next_of_order()
        while state.open[identifier := self._next_of_order()]:
            state.returned.append(identifier)
        return identifier

    def _next_of_order(self) -> str:
        state = self._state
        # Two ends of an order at most lie between here and a prompt that is not in the pool.
        for _ in range(2 * len(self._order) + 1):
            if state.position == len(self._order):
                state.epoch, state.position = state.epoch + 1, 0
                self._order = self._epoch_order(state.epoch)
            identifier = self._order[state.position]
            state.position += 1
            if identifier not in state.pool:
                return identifier
        # Everything is easy: the order alone decides.
        return self._order[state.position - 1]

    def _epoch_order(self, epoch: int) -> list[str]:
        return random.Random(f"order {self._seed} {epoch}").sample(self._ids, len(self._ids))

    def state_dict(self) -> dict[str, Any]:
        """JSON values; `load_state_dict` of a sampler over the same prompts, alpha and seed continues exactly here."""
        state = self._state
        version, numbers, gauss = self._random.getstate()
        return {
            "seed": self._seed,
            "num_prompts": len(self._ids),
            "epoch": state.epoch,
            "position": state.position,
            "returned": list(state.returned),
            "open": list(state.open.elements()),
            "pool": list(state.pool.ids),
            "busy": sorted(state.pool.busy),
            "counts": vars(state.counts).copy(),
            "random": [version, list(numbers), gauss],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Raises UserError where the saved state belongs to other data or another seed."""
        for name, own in (("seed", self._seed), ("num_prompts", len(self._ids))):
            if saved[name] != own:
                raise UserError(f"the checkpoint's prompt order has {name} {saved[name]}, this run {own}: keep both")
        unknown = {*saved["returned"], *saved["pool"], *saved["busy"]} - self._prompts.keys()
        if unknown:
            raise UserError(f"the checkpoint knows problems that the data lacks, for example {min(unknown)!r}")
        self._state = PromptState(
            epoch=saved["epoch"],
            position=saved["position"],
            returned=deque(saved["returned"]),
            open=Counter(saved.get("open", [])),
            pool=EasyPool(saved["pool"], saved["busy"]),
            counts=DrawCounts(**saved["counts"]),
        )
        self._order = self._epoch_order(saved["epoch"])
        version, numbers, gauss = saved["random"]
        self._random.setstate((version, tuple(numbers), gauss))

    def prompt(self, identifier: str) -> Prompt:
        """A prompt by its id; raises UserError where the data lacks it."""
        if identifier not in self._prompts:
            raise UserError(
                f"the checkpoint knows problem {identifier!r}, the data does not: use the data it was made with"
            )
        return self._prompts[identifier]
