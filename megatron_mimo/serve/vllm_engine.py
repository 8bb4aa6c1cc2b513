"""Greedy completions by vLLM, and how many tokens of the MTP draft the main model accepted.

`generate` runs vLLM in a process of its own: its environment, threads bound to cores and memory end with it.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.serve.speculative import mtp_speculative_config, vllm_environment

Prompt = str | list[int]
"""Text, or the ids of its tokens."""


@dataclass(frozen=True)
class Generation:
    """Completions of one group of prompts, and its counters."""

    texts: list[str]
    generated_tokens: int
    seconds: float
    draft_tokens: int
    """Tokens the MTP layer proposed; 0 without one."""
    accepted_tokens: int
    """Those that the main model would have produced itself."""


@dataclass(frozen=True)
class PromptGroup:
    """Prompts that are completed together, up to the end-of-document token or `max_tokens`."""

    name: str
    prompts: list[Prompt]
    max_tokens: int


def generate(folder: Path, groups: list[PromptGroup]) -> dict[str, Generation]:
    """Complete every group greedily with the model in `folder`, whose own code is run: load only folders you trust.

    Raises UserError with the end of vLLM's output where it fails.
    """
    mtp_speculative_config(folder)  # a folder without a model is reported before vLLM starts
    with tempfile.TemporaryDirectory() as scratch:
        request, answer = Path(scratch) / "request.json", Path(scratch) / "answer.json"
        request.write_text(json.dumps({"model": str(folder), "groups": [asdict(group) for group in groups]}))
        command = [sys.executable, "-m", __name__, str(request), str(answer)]
        environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"} | vllm_environment()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode or not answer.is_file():
            tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-15:])
            raise UserError(f"vLLM failed on {folder} (exit code {done.returncode}):\n{tail}")
        return {name: Generation(**generation) for name, generation in json.loads(answer.read_text()).items()}


class VLLMEngine:
    """vLLM inside this process, which must have been started with `vllm_environment()`."""

    def __init__(self, folder: Path, max_num_seqs: int = 64) -> None:
        import torch
        from vllm import LLM

        self._llm = LLM(
            model=str(folder),
            trust_remote_code=True,
            max_num_seqs=max_num_seqs,
            enforce_eager=not torch.cuda.is_available(),  # compiling takes longer than it gains on the CPU
            disable_log_stats=False,  # the counters of drafted tokens come from there
            speculative_config=mtp_speculative_config(folder),
        )

    def complete(self, prompts: list[Prompt], max_tokens: int) -> Generation:
        """Complete every prompt greedily, up to the end-of-document token or `max_tokens`."""
        from vllm import SamplingParams

        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        requests: list[Any] = [p if isinstance(p, str) else {"prompt_token_ids": p} for p in prompts]
        drafted, accepted = self._counters()
        start = time.perf_counter()
        outputs = [output.outputs[0] for output in self._llm.generate(requests, sampling, use_tqdm=False)]
        seconds = time.perf_counter() - start
        drafted_now, accepted_now = self._counters()
        return Generation(
            texts=[output.text for output in outputs],
            generated_tokens=sum(len(output.token_ids) for output in outputs),
            seconds=seconds,
            draft_tokens=drafted_now - drafted,
            accepted_tokens=accepted_now - accepted,
        )

    def _counters(self) -> tuple[int, int]:
        """Drafted and accepted tokens since the engine started; zeros without speculation."""
        values = {metric.name: getattr(metric, "value", 0) for metric in self._llm.get_metrics()}
        drafted = values.get("vllm:spec_decode_num_draft_tokens", 0)
        return int(drafted), int(values.get("vllm:spec_decode_num_accepted_tokens", 0))


def _serve_request(request_path: Path, answer_path: Path) -> None:
    """The child process of `generate`."""
    request = json.loads(request_path.read_text())
    engine = VLLMEngine(Path(request["model"]))
    groups = [PromptGroup(**group) for group in request["groups"]]
    answer = {group.name: asdict(engine.complete(group.prompts, group.max_tokens)) for group in groups}
    answer_path.write_text(json.dumps(answer))


if __name__ == "__main__":
    _serve_request(Path(sys.argv[1]), Path(sys.argv[2]))
