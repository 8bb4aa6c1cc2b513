"""Where answers come from: vLLM on a local folder (AsyncLLM), or an OpenAI-compatible endpoint."""

import asyncio
import copy
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from megatron_mimo.clients.endpoint import Completion, Endpoint, EndpointConfig, Message, RequestFailed, Sampling
from megatron_mimo.config import UserError
from megatron_mimo.config.eval import EvalGenerationConfig, EvaluateConfig
from megatron_mimo.data.chat.system_prompt import system_message
from megatron_mimo.data.tokens.tokenizer import TURN_END_TOKEN
from megatron_mimo.platform.files import file_sha256

Pairs = Sequence[tuple[str, str]]
"""(context, continuation)."""
BASE = "base_"
"""Tasks that need no chat template begin with it."""
IDENTITY_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "*.safetensors")


class Engine(Protocol):
    """A model that answers; use it in an `async with` block."""

    name: str
    identity: str
    """Changes with the weights, tokenizer and template: answers of one identity are shared through the cache."""

    async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
        """One answer. Raises RequestFailed (`final`: the request is at fault) or UserError (no request will do)."""
        ...

    async def complete(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        """The continuation of a text, without any template. Raises as `answer`."""
        ...

    async def log_likelihoods(self, pairs: Pairs) -> list[float]:
        """Natural log-probability of every continuation after its context. Raises as `answer`."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: Any) -> None: ...


def make_engine(config: EvaluateConfig) -> "EndpointEngine | LocalEngine":
    """The engine of `config.model`: an endpoint for an address, vLLM for a folder."""
    if config.model.startswith(("http://", "https://")):
        return EndpointEngine(config.model, config.model_name, config.generation)
    if not config.model:
        raise UserError("no model: give --model FOLDER or --model http://host:port/v1")
    engine = LocalEngine(Path(config.model), config.model_name, config.generation)
    if not config.tasks or not all(task.task.startswith(BASE) for task in config.tasks):
        engine.check_template()
    return engine


class EndpointEngine:
    """An OpenAI-compatible endpoint: chats in its own chat template, or plain texts through its `completions`."""

    has_template = True
    """Not known before the first chat."""

    def __init__(self, url: str, name: str, config: EvalGenerationConfig) -> None:
        """Asks the endpoint for its model's name where none is set; raises UserError when it is silent."""
        from megatron_mimo.serve.chat_client import find_model

        model = config.served_model or find_model(url.rstrip("/").removesuffix("/v1")).name
        self.name = name or model
        self.identity = digest("endpoint", self.name)
        self._endpoint = Endpoint(
            EndpointConfig(
                url=url,
                model=model,
                max_concurrent_requests=config.max_concurrent_requests,
                timeout_seconds=config.timeout_seconds,
                max_attempts=config.max_attempts,
                first_delay_seconds=config.first_delay_seconds,
                longest_delay_seconds=config.longest_delay_seconds,
            )
        )
        self._set(config)

    def _set(self, config: EvalGenerationConfig) -> None:
        self._system, self._is_plain = system_message(config.system_prompt), config.template == "plain"

    def asked_as(self, config: EvalGenerationConfig) -> Self:
        """The same running model, asked with another template and system message."""
        other = copy.copy(self)
        other._set(config)
        return other

    async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
        if self._is_plain:
            return await self.complete(plain_text([*self._system, *messages]), sampling, seed)
        return await self._endpoint.chat([*self._system, *messages], sampling, seed)

    async def complete(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        return await self._endpoint.complete(prompt, sampling, seed)

    async def log_likelihoods(self, pairs: Pairs) -> list[float]:
        return list(await asyncio.gather(*(self._endpoint.log_likelihood(*pair) for pair in pairs)))

    async def __aenter__(self) -> Self:
        await self._endpoint.__aenter__()
        return self

    async def __aexit__(self, *details: Any) -> None:
        await self._endpoint.__aexit__(*details)


@dataclass
class SharedVLLM:
    """A vLLM engine, shared by all ways to ask it; None while it is not entered."""

    engine: Any = None
    asked: int = 0


class LocalEngine:
    """vLLM with the model's MTP layers drafting, on the weights of a folder, whose own code is run."""

    def __init__(self, folder: Path, name: str, config: EvalGenerationConfig) -> None:
        """Raises UserError where the folder holds no model or no tokenizer."""
        from megatron_mimo.serve.speculative import read_model_config

        model_config = read_model_config(folder)
        self.context_tokens = config.seq_length or model_config.get("max_position_embeddings")
        self.name = name or folder.resolve().name
        self.identity = folder_identity(folder)
        self._folder = folder
        self._tokenizer = load_tokenizer(folder)
        self._running = SharedVLLM()
        self._set(config)

    def _set(self, config: EvalGenerationConfig) -> None:
        self._config, self._system = config, system_message(config.system_prompt)

    def asked_as(self, config: EvalGenerationConfig) -> Self:
        """The same running model, asked with another template and system message."""
        other = copy.copy(self)
        other._set(config)
        return other

    @property
    def has_template(self) -> bool:
        """Whether it can be asked as a chat."""
        return bool(self._tokenizer.chat_template)

    def check_template(self) -> None:
        """Raise UserError where chats are asked for and the folder has no chat template."""
        if self._config.template == "chat" and not self.has_template:
            raise UserError(
                f"{self._folder} has no chat template: add chat_template to its tokenizer_config.json, or set "
                "generation.template=plain for a base model"
            )

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """Tokens of the prompt in the template asked for."""
        return self.encode(self.prompt_text(messages))

    def prompt_text(self, messages: list[Message]) -> str:
        """The prompt in the template asked for."""
        asked = [*self._system, *messages]
        if self._config.template == "plain":
            return plain_text(asked)
        return self._tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)

    async def answer(self, messages: list[Message], sampling: Sampling, seed: int) -> Completion:
        prompt = self.prompt_text(messages)
        completion = await self._complete(self.encode(prompt), sampling, seed)
        # A template may open the thought: without its mark a truncated draft would pass for the answer.
        is_open = prompt.rstrip().endswith("<think>")
        return replace(completion, text=f"<think>\n{completion.text}") if is_open else completion

    async def complete(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        return await self._complete(self.encode(prompt), sampling, seed)

    async def log_likelihoods(self, pairs: Pairs) -> list[float]:
        """One request asks for all continuations by id where each is a single token, else one request each."""
        encoded = [encode_pair(self.encode, *pair) for pair in pairs]
        contexts = {tuple(context) for context, _ in encoded}
        if len(contexts) == 1 and all(len(tokens) == 1 for _, tokens in encoded):
            ids = [tokens[0] for _, tokens in encoded]
            asked = sorted(set(ids))
            final = await self._generate(encoded[0][0], max_tokens=1, temperature=0.0, logprob_token_ids=asked)
            # vLLM leaves them out where a step verifies another request's drafts.
            if (rows := final.outputs[0].logprobs) and rows[0].keys() >= set(ids):
                return [float(rows[0][token].logprob) for token in ids]
        return list(await asyncio.gather(*(self._log_likelihood(context, tokens) for context, tokens in encoded)))

    async def _log_likelihood(self, context: list[int], tokens: list[int]) -> float:
        ids = [*context, *tokens]
        final = await self._generate(ids, max_tokens=1, temperature=0.0, prompt_logprobs=0)
        rows = final.prompt_logprobs[len(context) :]
        return float(sum(row[token].logprob for row, token in zip(rows, tokens, strict=True)))

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without special ones."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    async def _complete(self, ids: list[int], sampling: Sampling, seed: int) -> Completion:
        final = await self._generate(
            ids,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=seed,
            stop=list(sampling.stop),
            stop_token_ids=self._stops,
        )
        answer = final.outputs[0]
        return Completion(answer.text, answer.finish_reason or "", len(ids), len(answer.token_ids))

    async def _generate(self, ids: list[int], *, max_tokens: int, **settings: Any) -> Any:
        """vLLM's output of one request. Raises RequestFailed where the context is too short, or vLLM died."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        engine = self._running.engine
        assert engine is not None, "use `async with`"
        room = engine.model_config.max_model_len - len(ids)
        if room < 1 or not ids:
            raise RequestFailed("the prompt is empty or longer than the context", f"{len(ids)} tokens", final=True)
        params = SamplingParams(max_tokens=min(max_tokens, room), output_kind=RequestOutputKind.FINAL_ONLY, **settings)
        self._running.asked += 1
        final: Any = None
        try:
            async for output in engine.generate({"prompt_token_ids": ids}, params, str(self._running.asked)):
                final = output
        except EngineDeadError as error:
            raise RequestFailed("vLLM died", str(error), final=False) from error
        return final

    @property
    def _stops(self) -> list[int]:
        """A turn's end ends an answer even where generation_config.json forgets it."""
        turn_end = self._tokenizer.get_vocab().get(TURN_END_TOKEN)
        return [] if turn_end is None or self._config.template == "plain" else [turn_end]

    async def __aenter__(self) -> Self:
        from megatron_mimo.serve.engine_settings import engine_settings
        from megatron_mimo.serve.speculative import vllm_environment

        os.environ.update(vllm_environment())
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        from megatron_mimo.serve.vllm_plugin import register

        register()
        max_model_len: Any = self._config.seq_length  # None: the model's own; vLLM's annotation forgets it
        self._running.engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                **engine_settings(self._folder, self._config.num_speculative_tokens),
                max_num_seqs=self._config.max_concurrent_requests,
                max_model_len=max_model_len,
            )
        )
        return self

    async def __aexit__(self, *_: Any) -> None:
        if self._running.engine is not None:
            self._running.engine.shutdown()
            self._running.engine = None


def plain_text(messages: list[Message]) -> str:
    """Messages as a text that a base model continues with: their contents, a line break after each."""
    return "\n".join(filter(None, (message["content"] for message in messages))) + "\n"


def encode_pair(encode: Callable[[str], list[int]], context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Tokens of a context and of what follows it, encoded together; spaces at the context's end go over.

    The convention of lm-evaluation-harness, which makes log-likelihoods comparable with its own.
    """
    kept = context.rstrip()
    context, continuation = kept, context[len(kept) :] + continuation
    ids = encode(context)
    return ids, encode(context + continuation)[len(ids) :]


def prompt_counter(engine: Engine, is_completion: bool) -> Callable[[str], int] | None:
    """Tokens of a question as the model is asked it, in its template but for completions; None for an endpoint."""
    if not isinstance(engine, LocalEngine):
        return None
    chat = lambda text: len(engine.prompt_ids([{"role": "user", "content": text}]))  # noqa: E731
    return engine.count_tokens if is_completion else chat


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no tokenizer that loads: {error}") from error


def folder_identity(folder: Path) -> str:
    """Digest of the files that decide the answers, weights included."""
    files = sorted({path for pattern in IDENTITY_FILES for path in folder.glob(pattern)})
    return digest(*(f"{path.name} {file_sha256(path)}" for path in files))


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
