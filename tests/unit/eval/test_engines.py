"""What an engine asks of vLLM, without a vLLM."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from megatron_mimo.eval.engines import LocalEngine

NATS = {"A": -1.0, "B": -2.0}


class LettersEngine(LocalEngine):
    """Tokens are characters; a request for tokens by id is answered by `rows`."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows, self.settings = rows, []

    def encode(self, text: str) -> list[int]:
        return [ord(sign) for sign in text]

    async def _generate(self, ids: list[int], **settings: Any) -> Any:
        self.settings.append(settings)
        likely = [None, *({token: SimpleNamespace(logprob=NATS.get(chr(token), 0.0))} for token in ids[1:])]
        return SimpleNamespace(outputs=[SimpleNamespace(logprobs=self.rows)], prompt_logprobs=likely)


@pytest.mark.parametrize(
    ("rows", "num_requests"),
    [
        ([{ord(letter): SimpleNamespace(logprob=nats) for letter, nats in NATS.items()}], 1),
        ([], 3),
        ([{ord("z"): SimpleNamespace(logprob=-0.1)}], 3),
    ],
)
def test_letters_that_vllm_leaves_out_are_asked_for_one_by_one(rows: list[Any], num_requests: int) -> None:
    engine = LettersEngine(rows)
    assert asyncio.run(engine.log_likelihoods([("Answer:", "A"), ("Answer:", "B")])) == [-1.0, -2.0]
    assert len(engine.settings) == num_requests
