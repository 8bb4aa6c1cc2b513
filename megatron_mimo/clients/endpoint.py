"""Client of an OpenAI-compatible endpoint (chats, completions): bounded concurrency, retries, tokens and cost counted.

A refused request (4xx) is never sent again: what is wrong with it stays wrong. 408, 409, 425, 429, 5xx, time-outs and
broken connections are, after a delay that doubles and is drawn at random so that waiting clients do not return
together.
"""

import asyncio
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, ClassVar, Self

import aiohttp

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.errors import require_at_least

Message = dict[str, str]
Read = Callable[[dict[str, Any]], "Completion"]
_WRONG_FOR_ALL = {401: "the key was not accepted", 403: "access was denied", 404: "no such address or model"}
"""Refusals that every other request would meet too: the run stops."""
_COME_BACK = (408, 409, 425, 429)
"""Statuses below 500 that say nothing about the request: too slow, in conflict with another, too early, too many."""


@dataclass(kw_only=True)
class EndpointConfig:
    """Where the model is, how hard it may be asked, and what it costs."""

    url: str
    """Base address, `http://localhost:8000/v1` for `vllm serve`."""
    model: str
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key; an unset one sends no key."""
    max_concurrent_requests: int = 64
    timeout_seconds: float = 1800.0
    """Of one attempt."""
    max_attempts: int = 8
    first_delay_seconds: float = 1.0
    """Upper end of the first delay; every further one doubles."""
    longest_delay_seconds: float = 60.0
    price_per_million_prompt_tokens: float = 0.0
    price_per_million_completion_tokens: float = 0.0
    """In any currency: the cost is reported in it."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("endpoint.url", self.url, "must begin with http:// or https://")
        require_at_least(1, "endpoint", max_concurrent_requests=self.max_concurrent_requests)
        require_at_least(1, "endpoint", max_attempts=self.max_attempts)
        require_at_least(0, "endpoint", first_delay_seconds=self.first_delay_seconds)
        require_at_least(0, "endpoint", longest_delay_seconds=self.longest_delay_seconds)
        if self.timeout_seconds <= 0:
            raise ConfigError("endpoint.timeout_seconds", self.timeout_seconds, "must be more than 0")


@dataclass(kw_only=True)
class Sampling:
    """How an answer is drawn; the report evaluates at temperature 0.6, top-p 0.95."""

    RENAMED: ClassVar = {"max_tokens": "max_new_tokens"}
    temperature: float = 0.6
    top_p: float = 0.95
    max_new_tokens: int = 8192
    """Longest answer."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer; they are no part of it."""

    def __post_init__(self) -> None:
        require_at_least(0, "sampling", temperature=self.temperature)
        require_at_least(1, "sampling", max_new_tokens=self.max_new_tokens)
        if not 0 < self.top_p <= 1:
            raise ConfigError("sampling.top_p", self.top_p, "must be above 0 and at most 1")


@dataclass
class Completion:
    """One answer and what it took."""

    text: str
    finish_reason: str
    """`stop`, or `length` for an answer that was cut."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class Usage:
    """What a run has used so far."""

    requests: int = 0
    retries: int = 0
    refused: int = 0
    given_up: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    """Failed attempts by kind: `429`, `503`, `TimeoutError`, ..."""

    def cost(self, config: EndpointConfig) -> float:
        """In the currency of the configured prices."""
        prompt = self.prompt_tokens * config.price_per_million_prompt_tokens
        return (prompt + self.completion_tokens * config.price_per_million_completion_tokens) / 1e6


class RequestFailed(Exception):
    """One request that brings no answer; `reason` is short and constant, the message has the details."""

    def __init__(self, reason: str, details: str, final: bool) -> None:
        super().__init__(f"{reason}: {details}")
        self.reason = reason
        self.final = final
        """True when the request itself is at fault: asking again another day is no use."""


class _Retry(Exception):
    def __init__(self, kind: str, after_seconds: float | None = None) -> None:
        super().__init__(kind)
        self.kind, self.after_seconds = kind, after_seconds


class Endpoint:
    """`async with Endpoint(config) as endpoint: await endpoint.chat(messages, Sampling())`."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.usage = Usage()
        self._slots = asyncio.Semaphore(config.max_concurrent_requests)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        key = os.environ.get(self.config.api_key_variable, "")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=aiohttp.ClientTimeout(total=self.config.timeout_seconds),
            connector=aiohttp.TCPConnector(limit=self.config.max_concurrent_requests),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def chat(self, messages: list[Message], sampling: Sampling, seed: int | None = None) -> Completion:
        """One answer. Raises RequestFailed when this request has none, UserError when no request can have one."""
        return await self._counted("chat/completions", {"messages": messages} | settings(sampling, seed), _chat_answer)

    async def complete(self, prompt: str, sampling: Sampling, seed: int | None = None) -> Completion:
        """The continuation of a text, through the endpoint's `completions`. Raises as `chat`."""
        return await self._counted("completions", {"prompt": prompt} | settings(sampling, seed), _text_answer)

    async def log_likelihood(self, prompt: str, continuation: str) -> float:
        """Natural log-probability of a continuation after the prompt, by a `completions` request that echoes it.

        Spaces at the prompt's end count with the continuation, as does every token that begins there. Raises as `chat`.
        """
        body = {"prompt": prompt + continuation, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0.0}

        def read(answer: dict[str, Any]) -> Completion:
            nats = _echoed_nats(answer, len(prompt.rstrip()), len(prompt + continuation))
            return replace(_text_answer(answer), text=repr(nats))

        return float((await self._counted("completions", body, read)).text)

    async def _counted(self, path: str, body: dict[str, Any], read: Read) -> Completion:
        async with self._slots:
            self.usage.requests += 1
            completion = await self._with_retries(path, {"model": self.config.model} | body, read)
        self.usage.prompt_tokens += completion.prompt_tokens
        self.usage.completion_tokens += completion.completion_tokens
        return completion

    async def _with_retries(self, path: str, body: dict[str, Any], read: Read) -> Completion:
        kind = ""
        for attempt in range(self.config.max_attempts):
            try:
                return await self._attempt(path, body, read)
            except (_Retry, aiohttp.ClientError, TimeoutError, OSError) as error:
                kind = error.kind if isinstance(error, _Retry) else type(error).__name__
                self.usage.errors[kind] = self.usage.errors.get(kind, 0) + 1
                if attempt + 1 < self.config.max_attempts:
                    self.usage.retries += 1
                    await asyncio.sleep(self._delay_seconds(attempt, error))
        self.usage.given_up += 1
        details = f"{self.config.max_attempts} attempts, the last: {kind}"
        raise RequestFailed("no answer from the endpoint", details, final=False)

    def _delay_seconds(self, attempt: int, error: Exception) -> float:
        """Full jitter; a server that says when to come back is obeyed up to the longest delay."""
        longest = self.config.longest_delay_seconds
        delay = random.uniform(0, min(longest, self.config.first_delay_seconds * 2**attempt))
        asked = error.after_seconds if isinstance(error, _Retry) else None
        return delay if asked is None else min(asked, longest) + delay

    async def _attempt(self, path: str, body: dict[str, Any], read: Read) -> Completion:
        assert self._session is not None, "use `async with Endpoint(...)`"
        url = f"{self.config.url.rstrip('/')}/{path}"
        async with self._session.post(url, json=body) as response:
            if response.status in _COME_BACK or response.status >= 500:
                raise _Retry(str(response.status), _retry_after_seconds(response))
            if response.status >= 300:
                await self._refuse(response)
            try:
                return read(await response.json(content_type=None))
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, IndexError, TypeError) as error:
                raise _Retry("unreadable answer") from error

    async def _refuse(self, response: aiohttp.ClientResponse) -> None:
        self.usage.refused += 1
        details = (await response.text(errors="replace"))[:500]
        if response.status in _WRONG_FOR_ALL:
            raise UserError(
                f"{self.config.url} answered {response.status}, {_WRONG_FOR_ALL[response.status]}: {details}\n"
                f"Check endpoint.url, endpoint.model and the key in ${self.config.api_key_variable}; "
                "what is already answered is kept"
            )
        raise RequestFailed(f"refused with {response.status}", details, final=True)


def _retry_after_seconds(response: aiohttp.ClientResponse) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):  # absent, or a date
        return None


def settings(sampling: Sampling, seed: int | None) -> dict[str, Any]:
    """What a request says of how its answer is drawn."""
    asked: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
    }
    asked |= {"stop": list(sampling.stop)} if sampling.stop else {}
    return asked if seed is None else asked | {"seed": seed}


def _chat_answer(answer: dict[str, Any]) -> Completion:
    """The first choice; reasoning that a server splits off goes back into its `<think>` block."""
    choice = answer["choices"][0]
    message = choice["message"]
    text, thought = content_text(message.get("content"))
    reasoning = message.get("reasoning_content") or message.get("reasoning") or thought
    if reasoning:
        text = f"<think>\n{reasoning.strip()}\n</think>\n\n{text}"
    return _read(answer, text)


def _text_answer(answer: dict[str, Any]) -> Completion:
    """The first choice of a text completion."""
    text = answer["choices"][0]["text"]
    if not isinstance(text, str):
        raise TypeError("the text of an answer is none")
    return _read(answer, text)


def _echoed_nats(answer: dict[str, Any], start: int, end: int) -> float:
    """Sum of the log-probabilities of the tokens that begin at characters [start, end) of an echoed text."""
    logprobs = answer["choices"][0]["logprobs"]
    pairs = zip(logprobs["text_offset"], logprobs["token_logprobs"], strict=True)
    found = [nats for offset, nats in pairs if start <= offset < end]
    if not found or any(nats is None for nats in found):
        raise TypeError("the endpoint echoes no log-probabilities")
    return float(sum(found))


def _read(answer: dict[str, Any], text: str) -> Completion:
    choice, usage = answer["choices"][0], answer.get("usage") or {}
    return Completion(
        text,
        choice.get("finish_reason") or "",
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
    )


def content_text(content: Any) -> tuple[str, str]:
    """A message's content as its text and its reasoning: a text, nothing, or a list of parts, which are joined.

    Raises TypeError for a part that holds neither text nor reasoning.
    """
    if content is None or isinstance(content, str):
        return content or "", ""
    texts, thoughts = [], []
    for part in content:
        if isinstance(part, dict) and "thinking" in part:
            thoughts.append(content_text(part["thinking"])[0])
        elif isinstance(part, dict) and isinstance(part.get("refusal"), str):
            texts.append(part["refusal"])
        elif isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str)):
            texts.append(part if isinstance(part, str) else part["text"])
        else:
            raise TypeError(f"a part of an answer is no text: {str(part)[:100]}")
    return "".join(texts), "".join(thoughts)
