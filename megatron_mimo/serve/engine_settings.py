"""The one set-up of vLLM: what every engine of this project is started with, in a process of ours or as a server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_mimo.serve.speculative import compute_dtype, mtp_speculative_config


def engine_settings(folder: Path, num_drafts: int | None = None, dtype: str = "") -> dict[str, Any]:
    """Settings that vLLM's `LLM` and `AsyncEngineArgs` share, for the model in `folder`, whose own code is run.

    `num_drafts`: see `mtp_speculative_config`; `dtype`: of the computation, by default `compute_dtype(folder)`. Raises
    UserError as these two do.
    """
    import torch  # a second that a command's --help should not take

    on_gpu = torch.cuda.is_available()
    return {
        "model": str(folder.resolve()),
        "trust_remote_code": True,
        "dtype": dtype or compute_dtype(folder),
        "enforce_eager": not on_gpu,  # compiling takes longer than it gains on the CPU
        "enable_chunked_prefill": on_gpu,  # on CPUs a prompt cut in two and a request's own seed end in an error
        "speculative_config": mtp_speculative_config(folder, num_drafts),
    }


def server_options(settings: dict[str, Any]) -> Iterator[str]:
    """The same settings as words of the command line of vLLM's server."""
    for name, value in settings.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{option}" if value else f"--no-{option}"
        elif value is not None:
            yield f"--{option}"
            yield json.dumps(value) if isinstance(value, dict) else value
