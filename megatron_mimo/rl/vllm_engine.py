"""A rollout engine on vLLM's `AsyncLLM`: this process talks, a process of vLLM's computes."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.config.rl import EngineConfig
from megatron_mimo.rl.engine_protocol import (
    EngineDied,
    Generation,
    GenerationFailed,
    GenerationRequest,
    RequestRejected,
    RolloutFault,
)
from megatron_mimo.rl.weight_broadcast import MeetingPoint
from megatron_mimo.serve.engine_settings import engine_settings
from megatron_mimo.serve.speculative import read_model_config, vllm_environment

WORKER_EXTENSION = "megatron_mimo.rl.vllm_worker.PolicyUpdates"


@dataclass(frozen=True)
class DraftCounters:
    """Since the engine started."""

    draft_tokens: int
    accepted_tokens: int


class VLLMRolloutEngine:
    """Generates from the model in `folder`, whose own code is run: load only folders you trust.

    Make it inside a running event loop of a process that was started with `engine_environment`. It does not come back
    after EngineDied: make another one (`RayRolloutEngine` does).
    """

    def __init__(self, name: str, folder: Path, config: EngineConfig, policy_version: int = 0) -> None:
        """Returns when the model is loaded. Raises UserError for a bad folder, EngineDied where vLLM does not start."""
        self.name, self.max_concurrent_requests = name, config.max_concurrent_requests
        self.policy_version = policy_version
        dtype = "" if config.dtype == "auto" else config.dtype
        self._settings = engine_settings(folder, config.num_speculative_tokens, dtype)
        self._stop_token_ids = stop_token_ids(folder)
        self._num_active = 0
        self._idle, self._open = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._open.set()
        self._updating = asyncio.Lock()
        try:
            self._llm = self._start(config)
        except Exception as error:
            reason = f"{error}; the cause stands in the engine's output, with Ray in <session>/logs/worker-*"
            raise EngineDied(f"{name}: vLLM does not start on {folder}: {reason}") from error

    def _start(self, config: EngineConfig) -> Any:
        import torch
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        on_gpu = torch.cuda.is_available()
        arguments = AsyncEngineArgs(
            **self._settings,
            skip_tokenizer_init=True,
            max_num_seqs=config.max_concurrent_requests,
            tensor_parallel_size=config.tensor_model_parallel_size,
            kv_cache_memory_bytes=None if on_gpu else config.memory_bytes,
            gpu_memory_utilization=config.gpu_memory_ratio,
            enable_prefix_caching=True,
            use_tqdm_on_load=False,
            worker_extension_cls=WORKER_EXTENSION,
            disable_log_stats=False,  # the counters of drafted tokens come from there
        )
        if config.seq_length:
            arguments.max_model_len = config.seq_length
        return AsyncLLM.from_engine_args(arguments)

    async def generate(self, request: GenerationRequest) -> Generation:
        """A complete response, cut where prompt and response reach the model's length.

        Log-probabilities are the model's own, before temperature and top-p. The end token is part of the response.
        Cancelling aborts the request in vLLM. Raises RequestRejected, GenerationFailed or EngineDied.
        """
        await self._open.wait()
        self._num_active += 1
        self._idle.clear()
        version = self.policy_version
        try:
            return await self._generate(request, version)
        except Exception as error:
            raise rollout_fault(error, self.name) from error
        finally:
            self._num_active -= 1
            if not self._num_active:
                self._idle.set()

    async def _generate(self, request: GenerationRequest, version: int) -> Generation:
        prompt: Any = {"prompt_token_ids": list(request.prompt.tokens)}
        completion = None
        async for output in self._llm.generate(prompt, self._sampling(request), request.id):
            completion = output.outputs[0]
        if completion is None or completion.finish_reason not in ("stop", "length"):
            raise GenerationFailed(f"vLLM ended {request.id} with {completion and completion.finish_reason!r}")
        tokens = list(completion.token_ids)
        return Generation(
            tokens=tokens,
            logprobs=[place[token].logprob for token, place in zip(tokens, completion.logprobs, strict=True)],
            finish_reason=completion.finish_reason,
            policy_version=version,
        )

    def _sampling(self, request: GenerationRequest) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=request.settings.temperature,
            top_p=request.settings.top_p,
            seed=request.seed,
            max_tokens=request.settings.max_new_tokens,
            stop_token_ids=self._stop_token_ids,
            logprobs=0,  # of the sampled token alone
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def update_weights(self, folder: Path, policy_version: int) -> None:
        """Load the weights in `folder` into target and MTP draft, in place, and empty the prefix cache.

        Requests in flight are finished with the old weights first, new ones wait: no response mixes two policies.
        Raises UserError for a folder without weights, and changes nothing; EngineDied where loading failed, after
        which the engine holds parts of both and must be replaced.
        """
        read_model_config(folder)
        await self._update("reload_folder", (str(folder),), policy_version)

    async def receive_weights(self, point: MeetingPoint, first_rank: int, policy_version: int) -> None:
        """The same with weights that the trainer broadcasts; this engine's workers are first_rank and following."""
        await self._update("receive_weights", (point.host, point.port, point.size, first_rank), policy_version)

    async def _update(self, method: str, arguments: tuple[Any, ...], policy_version: int) -> None:
        async with self._updating:
            self._open.clear()
            try:
                await self._idle.wait()
                await self._llm.collective_rpc(method, args=arguments)
                if not await self._llm.reset_prefix_cache():
                    raise RuntimeError("the prefix cache is in use")
            except Exception as error:
                raise EngineDied(f"{self.name}: {method} failed: {error}") from error
            finally:
                self._open.set()
            self.policy_version = policy_version

    async def counters(self) -> DraftCounters:
        """Tokens that the MTP draft proposed, and those the model took."""
        from vllm.v1.metrics.reader import get_metrics_snapshot

        metrics = {metric.name: getattr(metric, "value", 0) for metric in get_metrics_snapshot()}
        names = ("draft_tokens", "accepted_tokens")
        return DraftCounters(*(int(metrics.get(f"vllm:spec_decode_num_{name}", 0)) for name in names))

    def close(self) -> None:
        """End vLLM's processes."""
        self._llm.shutdown()


def rollout_fault(error: Exception, engine: str) -> RolloutFault:
    """vLLM's errors as the scheduler's. By class name: vLLM moves them between modules."""
    if isinstance(error, RolloutFault):
        return error
    names = {ancestor.__name__ for ancestor in type(error).__mro__}
    if "EngineDeadError" in names:
        return EngineDied(f"{engine}: {error}")
    if names & {"VLLMClientError", "ValueError"}:
        return RequestRejected(str(error))
    cause = f" ({error.__cause__!r})" if error.__cause__ else ""
    return GenerationFailed(f"{engine}: {type(error).__name__}: {error}{cause}")


def stop_token_ids(folder: Path) -> list[int]:
    """What ends a response: `eos_token_id` of config.json, which lists the end of a chat turn too."""
    end = read_model_config(folder).get("eos_token_id")
    if end is None:
        raise UserError(
            f"{folder}/config.json names no eos_token_id: responses would never end; export the model again"
        )
    return end if isinstance(end, list) else [end]


def engine_environment(config: EngineConfig) -> dict[str, str]:
    """The environment of a process that holds an engine; the caller's own settings win.

    On CPU `config` gives the key/value memory and the threads, which are not bound to cores: trainer, judge and other
    engines share them. vLLM computes in its engine process, without another one in between.
    """
    ours = vllm_environment() | {
        "OMP_NUM_THREADS": str(config.num_threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    ours.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would override `memory_bytes`
    return {**ours, **os.environ}
