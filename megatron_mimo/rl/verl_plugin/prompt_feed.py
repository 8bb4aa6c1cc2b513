"""The easy-data pool as the sampler of verl's dataloader: a prompt is a row of the dataset."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler

from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Origin, Prompt, SampleGroup

Draw = tuple[Prompt, Origin]


class EasyPoolSampler(Sampler[int]):
    """Endless row numbers, drawn when they are asked for: the loader must not read ahead (num_workers 0, batch 1).

    Its state travels in the loader's `state_dict`. Take it between steps, when every drawn prompt is settled.
    """

    def __init__(self, num_rows: int, *, alpha: float, seed: int) -> None:
        """alpha, seed: of PromptSampler."""
        prompts = [Prompt(id=f"{row:09}") for row in range(num_rows)]
        self.prompts = PromptSampler(prompts, alpha=alpha, seed=seed)
        self.survival: float | None = None
        """The running share of surviving prompts, kept here because it is saved with the data position."""
        self._num_rows = num_rows
        self._drawn: deque[Draw] = deque()

    def __len__(self) -> int:
        return self._num_rows

    def __iter__(self) -> Iterator[int]:
        while True:
            prompt, origin = self.prompts.draw()
            self._drawn.append((prompt, origin))
            yield int(prompt.id)

    def take_draws(self, number: int) -> list[Draw]:
        """What the oldest `number` rows were, in the order they were drawn."""
        return [self._drawn.popleft() for _ in range(number)]

    def settle(self, group: SampleGroup) -> None:
        """How a draw ended."""
        self.prompts.settle(group)

    def state_dict(self) -> dict[str, Any]:
        return {"prompts": self.prompts.state_dict(), "survival": self.survival}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Raises UserError where the data or the seed is another."""
        self.prompts.load_state_dict(saved["prompts"])
        self.survival = saved["survival"]
        self._drawn.clear()
