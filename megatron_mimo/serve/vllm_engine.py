"""Completions by vLLM, greedy or sampled, and how many tokens of the MTP draft the main model accepted.

`generate` runs vLLM in its own process: its environment, threads bound to cores and memory end with it.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.serve.engine_settings import engine_settings
from megatron_mimo.serve.speculative import compute_dtype, mtp_speculative_config, vllm_environment

Prompt = str | list[int]
"""Text, or the ids of its tokens."""


@dataclass(frozen=True)
class GroupGeneration:
    """Completions of one group of prompts, and its counters."""

    texts: list[str]
    generated_tokens: int
    seconds: float
    draft_tokens: int
    """Tokens the MTP layers proposed; 0 without any."""
    accepted_tokens: int
    """Those that the main model would have produced itself."""
    draft_rounds: int = 0
    """Steps that drafted."""
    accepted_by_position: list[int] = field(default_factory=list)
    """Of the `draft_rounds` drafts of MTP layer 1, 2, ..., those accepted."""


@dataclass(frozen=True)
class PromptGroup:
    """Prompts that are completed together, up to the end-of-document token or `max_tokens`."""

    name: str
    prompts: list[Prompt]
    max_tokens: int
    ignore_eos: bool = False
    """Go on to `max_tokens` after an end-of-document token."""
    temperature: float = 0.0
    """Above 0 every response is sampled, with a seed of its own: the place of its prompt."""


def generate(folder: Path, groups: list[PromptGroup], num_drafts: int | None = None) -> dict[str, GroupGeneration]:
    """Complete every group with the model in `folder`, whose own code is run: load only folders you trust.

    `num_drafts` tokens per step are drafted, by default one for each MTP layer. Raises UserError with the end of vLLM's
    output where it fails.
    """
    mtp_speculative_config(folder, num_drafts)  # a folder without a model is reported before vLLM starts
    with tempfile.TemporaryDirectory() as scratch:
        request, answer = Path(scratch) / "request.json", Path(scratch) / "answer.json"
        asked = {
            "model": str(folder),
            "dtype": compute_dtype(folder),
            "num_drafts": num_drafts,
            "groups": [asdict(group) for group in groups],
        }
        request.write_text(json.dumps(asked))
        command = [sys.executable, "-m", __name__, str(request), str(answer)]
        environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"} | vllm_environment()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode or not answer.is_file():
            tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-15:])
            raise UserError(f"vLLM failed on {folder} (exit code {done.returncode}):\n{tail}")
        return {name: GroupGeneration(**generation) for name, generation in json.loads(answer.read_text()).items()}


class VLLMEngine:
    """vLLM inside this process, which must have been started with `vllm_environment()`."""

    def __init__(self, folder: Path, max_num_seqs: int = 64, num_drafts: int | None = None, dtype: str = "") -> None:
        """`dtype`: of the computation, by default `compute_dtype(folder)`."""
        from vllm import LLM

        from megatron_mimo.serve.vllm_plugin import register

        register()  # vLLM does it too where the project is installed
        # The counters of drafted tokens come from the statistics.
        settings = engine_settings(folder, num_drafts, dtype)
        self._llm = LLM(**settings, max_num_seqs=max_num_seqs, disable_log_stats=False)

    def complete(self, group: PromptGroup) -> GroupGeneration:
        """Complete the group's prompts, all at once."""
        from vllm import SamplingParams

        sampling = [
            SamplingParams(
                temperature=group.temperature,
                seed=place if group.temperature else None,
                max_tokens=group.max_tokens,
                ignore_eos=group.ignore_eos,
            )
            for place in range(len(group.prompts))
        ]
        requests: list[Any] = [p if isinstance(p, str) else {"prompt_token_ids": p} for p in group.prompts]
        before = self._counters()
        start = time.perf_counter()
        outputs = [output.outputs[0] for output in self._llm.generate(requests, sampling, use_tqdm=False)]
        seconds = time.perf_counter() - start
        rounds, drafted, accepted, *by_position = (
            now - then for now, then in zip(self._counters(), before, strict=True)
        )
        return GroupGeneration(
            texts=[output.text for output in outputs],
            generated_tokens=sum(len(output.token_ids) for output in outputs),
            seconds=seconds,
            draft_tokens=drafted,
            accepted_tokens=accepted,
            draft_rounds=rounds,
            accepted_by_position=by_position,
        )

    def _counters(self) -> list[int]:
        """Draft rounds, drafted tokens, accepted tokens and those by draft position, since the engine started."""
        metrics = {metric.name: metric for metric in self._llm.get_metrics()}
        names = ("num_drafts", "num_draft_tokens", "num_accepted_tokens")
        totals = [getattr(metrics.get(f"vllm:spec_decode_{name}"), "value", 0) for name in names]
        by_position = getattr(metrics.get("vllm:spec_decode_num_accepted_tokens_per_pos"), "values", [])
        return [int(value) for value in (*totals, *by_position)]


def _serve_request(request_path: Path, answer_path: Path) -> None:
    """The child process of `generate`."""
    request = json.loads(request_path.read_text())
    engine = VLLMEngine(Path(request["model"]), dtype=request["dtype"], num_drafts=request["num_drafts"])
    groups = [PromptGroup(**group) for group in request["groups"]]
    answer = {group.name: asdict(engine.complete(group)) for group in groups}
    answer_path.write_text(json.dumps(answer))


if __name__ == "__main__":
    _serve_request(Path(sys.argv[1]), Path(sys.argv[2]))
