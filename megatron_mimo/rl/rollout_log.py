"""Every response of the newest steps on disk, to be read: `OUTPUT_DIR/rollouts/step_000012.jsonl.gz`.

A line is one response: problem, text, tokens with the engine's log-probabilities, reward and its parts, verdict per
test, how its group ended. Files are complete or absent; the oldest go when there are too many.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from megatron_mimo.rl.problems.problem import Problem
from megatron_mimo.rl.sample import Sample, SampleGroup
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch

FOLDER = "rollouts"


class RolloutLog:
    """Written by the driver alone, one file per step."""

    def __init__(
        self,
        output_dir: Path,
        problems: Mapping[str, Problem],
        decode: Callable[[Iterable[int]], str],
        keep_steps: int,
    ) -> None:
        """keep_steps: newest steps that stay; 0 writes nothing."""
        self._folder, self._problems = output_dir / FOLDER, problems
        self._decode, self._keep_steps = decode, keep_steps

    def write(self, step: int, batch: RolloutBatch) -> None:
        """All finished responses of a step, whatever became of their groups."""
        if not self._keep_steps:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step_{step:06}.jsonl.gz"
        temporary = path.with_name(path.name + ".tmp")
        with gzip.open(temporary, "wb", compresslevel=5) as file:
            for group in batch.groups:
                for row in self._rows(step, group):
                    file.write(msgspec.json.encode(row) + b"\n")
        temporary.replace(path)
        for old in rollout_files(self._folder.parent)[: -self._keep_steps]:
            old.unlink()

    def _rows(self, step: int, group: SampleGroup) -> Iterator[dict[str, Any]]:
        problem = self._problems.get(group.prompt.id)
        for index, sample in enumerate(group.samples):
            if sample is not None:
                yield {
                    "step": step,
                    "problem": group.prompt.id,
                    "source": group.prompt.domain,
                    "prompt": problem.prompt if problem else self._decode(group.prompt.tokens),
                    "answer": problem.answer if problem else "",
                    "launch": group.launch_index,
                    "sample": index,
                    "outcome": str(group.outcome),
                    "response": self._decode(sample.tokens),
                    **rewards(sample),
                    "tokens": list(sample.tokens),
                    "rollout_logprobs": [round(value, 4) for value in sample.rollout_logprobs],
                }


def rewards(sample: Sample) -> dict[str, Any]:
    """What became of a response."""
    return {
        "reward": sample.reward,
        "solved": sample.solved,
        "parts": sample.reward_parts,
        "details": sample.reward_details,
        "finish_reason": sample.finish_reason,
        "policy_version": sample.policy_version,
        "engine": sample.engine,
        "attempts": sample.attempts,
        "seconds": round(sample.generated_seconds - sample.started_seconds, 3),
    }


def rollout_files(output_dir: Path) -> list[Path]:
    """The complete files of a run, oldest first."""
    return sorted((output_dir / FOLDER).glob("step_*.jsonl.gz"))


def read_rollout_file(path: Path) -> Iterator[dict[str, Any]]:
    """The responses of a step."""
    with gzip.open(path, "rb") as file:
        for line in file:
            yield msgspec.json.decode(line)
