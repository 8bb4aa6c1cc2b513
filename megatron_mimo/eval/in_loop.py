"""A small evaluation of a model folder, for programs that must not load vLLM: its own process, a time limit."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvaluateConfig
from megatron_mimo.config.load import from_tree
from megatron_mimo.platform.files import write_json

Scores = dict[str, dict[str, float | None]]
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "OMP_NUM_THREADS")
"""Variables that would make vLLM join the training's process group, or keep it on one thread."""


def score_folder(config: EvaluateConfig, limit_seconds: float) -> Scores:
    """task -> its figures for the model in `config.model`, whose own code is run.

    Raises UserError with the end of the process's output where it fails or takes longer than `limit_seconds`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        request, answer, log = (Path(scratch) / name for name in ("request.json", "answer.json", "log.txt"))
        request.write_text(json.dumps(asdict(config)))
        with log.open("wb") as output:
            command = [sys.executable, "-m", __name__, str(request), str(answer)]
            # Its own session: vLLM's processes end with it.
            process = subprocess.Popen(
                command, env=environment(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                code = process.wait(limit_seconds)
            except subprocess.TimeoutExpired as error:
                raise UserError(
                    f"the evaluation took longer than {limit_seconds:g} s: ask less, or wait longer"
                ) from error
            finally:
                end_session(process)
        if code or not answer.is_file():
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise UserError(f"the evaluation failed (exit code {code}):\n{tail}")
        return json.loads(answer.read_text())


def environment() -> dict[str, str]:
    """This process's environment for vLLM, without what torchrun put into it."""
    from megatron_mimo.serve.speculative import vllm_environment

    return {key: value for key, value in vllm_environment().items() if not key.startswith(TORCHRUN)}


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process and its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


async def score(config: EvaluateConfig) -> Scores:
    """The same in this process."""
    from megatron_mimo.eval.engines import make_engine
    from megatron_mimo.eval.run import prepare
    from megatron_mimo.eval.session import make_graders, score_now

    engine = make_engine(config)
    needs = {need for run in prepare(config, engine) for need in run.task.needs}
    async with make_graders(config, needs) as graders, engine:
        return await score_now(config, engine, graders)


def serve_request(request: Path, answer: Path) -> int:
    """The child process of `score_folder`."""
    tree: dict[str, Any] = json.loads(request.read_text())
    try:
        write_json(answer, asyncio.run(score(from_tree(EvaluateConfig, tree, source=str(request)))))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(serve_request(Path(sys.argv[1]), Path(sys.argv[2])))
