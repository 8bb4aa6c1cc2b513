"""The endpoint's client against a real server that misbehaves."""

import asyncio
from typing import Any

import pytest

from megatron_mimo.clients.endpoint import (
    Completion,
    Endpoint,
    EndpointConfig,
    RequestFailed,
    Sampling,
    Usage,
    content_text,
)
from megatron_mimo.config import ConfigError, UserError
from support.chat_server import ChatServer, chat_server


def config(server: ChatServer, **settings: object) -> EndpointConfig:
    defaults = {"first_delay_seconds": 0.01, "longest_delay_seconds": 0.05, "max_attempts": 4, "timeout_seconds": 5.0}
    return EndpointConfig(url=server.url, model="m", **(defaults | settings))  # type: ignore[arg-type]


def ask(settings: EndpointConfig, number: int = 1) -> tuple[list[Completion | BaseException], Usage]:
    async def run() -> tuple[list[Completion | BaseException], Usage]:
        async with Endpoint(settings) as endpoint:
            chats = [endpoint.chat([{"role": "user", "content": str(i)}], Sampling()) for i in range(number)]
            return await asyncio.gather(*chats, return_exceptions=True), endpoint.usage

    return asyncio.run(run())


@pytest.mark.parametrize("fault", [408, 425, 429, 500, 503, 0, -1])
def test_passing_faults_are_retried(fault: int) -> None:
    with chat_server(ChatServer(lambda body: "yes", faults=[fault, fault])) as server:
        (answer,), usage = ask(config(server))
    assert isinstance(answer, Completion) and answer.text == "yes"
    assert (usage.retries, usage.requests, len(server.bodies)) == (2, 1, 3)
    assert (usage.prompt_tokens, usage.completion_tokens) == (10, 5)


def test_gives_up_after_the_last_attempt() -> None:
    with chat_server(ChatServer(lambda body: "yes", faults=[500] * 10)) as server:
        (answer,), usage = ask(config(server))
    assert isinstance(answer, RequestFailed) and not answer.final
    assert len(server.bodies) == 4 and usage.given_up == 1 and usage.errors == {"500": 4}


def test_a_refusal_is_final() -> None:
    with chat_server(ChatServer(lambda body: "yes", faults=[400])) as server:
        (answer,), _ = ask(config(server))
    assert isinstance(answer, RequestFailed) and answer.final and answer.reason == "refused with 400"
    assert len(server.bodies) == 1


def test_a_wrong_key_stops_the_run() -> None:
    with chat_server(ChatServer(lambda body: "yes", faults=[401])) as server:
        (answer,), _ = ask(config(server))
    assert isinstance(answer, UserError) and "OPENAI_API_KEY" in str(answer)
    assert len(server.bodies) == 1


def test_concurrency_is_bounded_and_used() -> None:
    with chat_server(ChatServer(lambda body: "yes", delay_seconds=0.1)) as server:
        answers, _ = ask(config(server, max_concurrent_requests=3), number=9)
    assert all(isinstance(answer, Completion) for answer in answers)
    assert server.most_in_flight == 3


def test_the_server_says_when_to_come_back() -> None:
    server = ChatServer(lambda body: "yes", faults=[429], headers={"Retry-After": "0.2"})
    with chat_server(server):
        started = asyncio.new_event_loop().time()
        ask(config(server, first_delay_seconds=0.0, longest_delay_seconds=1.0))
        assert asyncio.new_event_loop().time() - started >= 0.2


def test_a_slow_answer_times_out() -> None:
    with chat_server(ChatServer(lambda body: "yes", delay_seconds=0.5)) as server:
        (answer,), usage = ask(config(server, timeout_seconds=0.1, max_attempts=2))
    assert isinstance(answer, RequestFailed) and sum(usage.errors.values()) == 2


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    with chat_server(ChatServer(lambda body: "yes")) as server:
        ask(config(server, api_key_variable="SOME_KEY"))
        ask(config(server, api_key_variable="NO_SUCH_KEY"))
    assert server.keys == ["Bearer secret", None]


def test_cost() -> None:
    settings = EndpointConfig(
        url="http://x", model="m", price_per_million_prompt_tokens=2.0, price_per_million_completion_tokens=10.0
    )
    assert Usage(prompt_tokens=500_000, completion_tokens=100_000).cost(settings) == pytest.approx(2.0)


@pytest.mark.parametrize("settings", [{"url": "x"}, {"max_attempts": 0}, {"timeout_seconds": 0}])
def test_impossible_settings(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        EndpointConfig(**({"url": "http://x", "model": "m"} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "The answer is "}, {"type": "text", "text": "4."}], "The answer is 4."),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}, {"type": "text", "text": "4"}],
         "<think>\n2+2\n</think>\n\n4"),
        (["4", {"text": "."}], "4."),
        ([], ""),
        (None, ""),
    ],
)  # fmt: skip
def test_content_in_parts_is_joined(content: Any, text: str) -> None:
    with chat_server(ChatServer(lambda body: content)) as server:
        (answer,), _ = ask(config(server))
    assert isinstance(answer, Completion) and answer.text == text


def test_a_part_that_is_no_text_is_told() -> None:
    with pytest.raises(TypeError, match="no text"):
        content_text([{"type": "image_url", "image_url": {}}])


def characters(body: dict[str, Any]) -> dict[str, Any]:
    """A completion by a model whose tokens are pairs of characters; it adds one after the prompt."""
    text = body["prompt"] + "!!"
    offsets = list(range(0, len(text), 2))
    nats = [None, *(-float(offset) for offset in offsets[1:])]
    return {"text": text, "logprobs": {"text_offset": offsets, "token_logprobs": nats}}


@pytest.mark.parametrize(
    ("prompt", "continuation", "nats"), [("abcd", "efgh", -10.0), ("abcd", "ef", -4.0), ("abcd ", "efg", -10.0)]
)
def test_log_likelihoods_by_echo(prompt: str, continuation: str, nats: float) -> None:
    async def ask_it(url: str) -> float:
        async with Endpoint(EndpointConfig(url=url, model="m")) as endpoint:
            return await endpoint.log_likelihood(prompt, continuation)

    with chat_server(ChatServer(characters)) as server:
        assert asyncio.run(ask_it(server.url)) == nats
    assert server.bodies[0]["echo"] and server.bodies[0]["max_tokens"] == 1 and "messages" not in server.bodies[0]


def test_completions_carry_stop_strings() -> None:
    async def ask_it(url: str) -> Completion:
        async with Endpoint(EndpointConfig(url=url, model="m")) as endpoint:
            return await endpoint.complete("1+1=", Sampling(stop=("\n",)), seed=3)

    with chat_server(ChatServer(lambda body: "2")) as server:
        assert asyncio.run(ask_it(server.url)).text == "2"
    assert (server.bodies[0]["prompt"], server.bodies[0]["stop"], server.bodies[0]["seed"]) == ("1+1=", ["\n"], 3)
