"""The groups of one step in launch order, counted as they end, and the running estimate of how many survive."""

from collections.abc import Callable
from typing import Any

import msgspec

from megatron_mimo.rl.sample import Outcome, Prompt, Sample, SampleGroup


class StepLedger:
    """Every group launched in this step; nothing leaves it before the step is settled.

    A group is active until it is complete or dropped; usable if it is complete and `keeps(group)`.
    """

    def __init__(self, num_groups: int, keeps: Callable[[SampleGroup], bool]) -> None:
        self.num_groups = num_groups
        """The batch to fill."""
        self.groups: list[SampleGroup] = []
        self.num_active = self.num_complete = self.num_usable = self.num_usable_in_front = 0
        """`in front`: before the oldest active group, in launch order."""
        self._keeps = keeps
        self._ended: set[int] = set()
        self._front = 0
        self._generating: set[int] = set()

    def add(self, group: SampleGroup) -> None:
        """Enter a group, new or restored."""
        self.groups.append(group)
        self.num_active += 1
        self._generating.add(group.launch_index)
        self.note(group)

    def note(self, group: SampleGroup) -> bool:
        """Take note of what happened to a group; True if it ended just now."""
        if group.generated or group.outcome is not None:
            self._generating.discard(group.launch_index)
        if group.launch_index in self._ended or not (group.complete or group.outcome is Outcome.FAULTED):
            return False
        self._ended.add(group.launch_index)
        self.num_active -= 1
        self.num_complete += group.outcome is None
        self.num_usable += self.usable(group)
        while self._front < len(self.groups) and self.groups[self._front].launch_index in self._ended:
            self.num_usable_in_front += self.usable(self.groups[self._front])
            self._front += 1
        return True

    @property
    def is_generating(self) -> bool:
        return bool(self._generating)

    def usable(self, group: SampleGroup) -> bool:
        return group.outcome is not Outcome.FAULTED and group.complete and self._keeps(group)

    def usable_in_launch_order(self) -> list[SampleGroup]:
        """The first num_groups usable groups by launch."""
        return [group for group in self.groups if self.usable(group)][: self.num_groups]

    def usable_in_finishing_order(self) -> list[SampleGroup]:
        """The first num_groups usable groups by time of completion."""
        usable = [group for group in self.groups if self.usable(group)]
        return sorted(usable, key=lambda group: (group.completed_seconds or 0.0, group.launch_index))[: self.num_groups]

    def settle(self, chosen: list[SampleGroup]) -> None:
        """Give every group its outcome."""
        selected = {group.launch_index for group in chosen}
        for group in self.groups:
            if group.outcome is not Outcome.FAULTED:
                group.outcome = self._outcome(group, group.launch_index in selected)

    def _outcome(self, group: SampleGroup, is_selected: bool) -> Outcome:
        if is_selected:
            return Outcome.SELECTED
        if not group.complete:
            return Outcome.ABORTED
        return Outcome.SURPLUS if self._keeps(group) else Outcome.FILTERED


class SurvivalEstimate:
    """Running share of complete groups that pass dynamic sampling.

    The steps before weigh as much as `weight_groups` groups of this one: the first to finish are the short ones, which
    are no fair sample.
    """

    def __init__(self, prior: float, weight_groups: int) -> None:
        self.prior, self._weight = prior, weight_groups

    def rate(self, num_usable: int, num_complete: int) -> float:
        """The estimate within a step; never 0."""
        evidence = self._weight + num_complete
        return max((self.prior * self._weight + num_usable) / evidence, 1 / (2 * evidence))

    def end_step(self, num_usable: int, num_complete: int) -> None:
        """Carry the step's result over to the next one."""
        self.prior = self.rate(num_usable, num_complete)


def group_to_json(group: SampleGroup) -> dict[str, Any]:
    """JSON values; the prompt by its id."""
    saved = msgspec.to_builtins(group)
    return {**saved, "prompt": group.prompt.id}


def group_from_json(saved: dict[str, Any], prompt: Prompt) -> SampleGroup:
    fields = {name: value for name, value in saved.items() if name not in ("prompt", "samples", "outcome")}
    samples = [None if sample is None else Sample(**sample) for sample in saved["samples"]]
    outcome = None if saved["outcome"] is None else Outcome(saved["outcome"])
    return SampleGroup(prompt=prompt, samples=samples, outcome=outcome, **fields)
