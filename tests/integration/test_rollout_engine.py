"""vLLM engines behind Ray actors: seeds, aborts, weights in place, deaths. The models are tiny and random."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from megatron_mimo.config import ModelConfig, UserError
from megatron_mimo.config.rl import EngineConfig, GenerationConfig, RetryConfig, RolloutConfig
from megatron_mimo.convert import huggingface, mimo
from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer
from megatron_mimo.platform.network import free_port
from megatron_mimo.rl.engine_actor import RayRolloutEngine, start_all
from megatron_mimo.rl.engine_protocol import EngineDied, Generation, GenerationRequest, RequestRejected, Score
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Outcome, Prompt, Sample
from megatron_mimo.rl.scheduler.scheduler import RolloutBatch, RolloutScheduler
from megatron_mimo.rl.weight_broadcast import MeetingPoint, WeightBroadcast
from support.needs import needs
from support.patience import patience
from support.processes import is_alive
from support.rl_tiny import load_weights

needs("ray", "vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MODEL = ModelConfig(
    num_layers=2, hidden_size=64, ffn_hidden_size=128, num_attention_heads=2, num_query_groups=1, kv_channels=32,
    vocab_size=384,
)  # fmt: skip
LONGEST = 1 << 18
CONFIG = EngineConfig(max_concurrent_requests=2, dtype="float32", seq_length=LONGEST)
PROMPT = Prompt(id="p", tokens=(5, 80, 17))


def random_model(folder: Path, seed: int) -> Path:
    """A model that mostly permutes tokens, with enough noise that its MTP layer is right now and then.

    An odd seed's head and the norms before it have the other sign: target and draft of one model agree, while a draft
    left over from a model of the other kind proposes what the head likes least.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = {name: torch.randn(shape, generator=generator) for name, shape in mimo.hugging_face_shapes(MODEL).items()}
    weights = {n: 1 + 0.1 * t if "norm" in n else t * (0.3 if "bias" in n else 0.11) for n, t in noise.items()}
    embedding = weights["model.embed_tokens.weight"] = noise["model.embed_tokens.weight"]
    weights["lm_head.weight"] = embedding[torch.randperm(MODEL.vocab_size, generator=generator)] * 0.2
    weights["model.mtp_layers.0.input_proj.weight"][:, MODEL.hidden_size :] += torch.eye(MODEL.hidden_size)
    for name in ("lm_head", "model.norm", "model.mtp_layers.0.final_layernorm"):
        weights[f"{name}.weight"] *= (-1) ** seed
    save_tokenizer(train_tokenizer(["some words"], vocab_size=268), folder.parent / "tokenizer")
    tokenizer = huggingface.check_tokenizer(folder.parent / "tokenizer", MODEL)
    weights["lm_head.weight"][tokenizer.stop_token_ids] = 0.0  # greedy responses never end before their budget
    settings = {"rotary_base": 10_000, "seq_length": LONGEST, "tokenizer": tokenizer}
    huggingface.write_hugging_face(folder, MODEL, weights.items(), **settings)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")
    return random_model(root / "first", seed=0), random_model(root / "second", seed=1)


@pytest.fixture(scope="module")
def engines(folders: tuple[Path, Path]) -> Iterator[tuple[RayRolloutEngine, RayRolloutEngine]]:
    """One on each model."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    pair = RayRolloutEngine("a", folders[0], CONFIG), RayRolloutEngine("b", folders[1], CONFIG, policy_version=9)
    try:
        asyncio.run(start_all(pair))
        yield pair
    finally:
        for engine in pair:
            engine.close()
        ray.shutdown()


def request(name: object, *, seed: int = 1, prompt: Prompt = PROMPT, **settings: float) -> GenerationRequest:
    generation = GenerationConfig(**{"max_new_tokens": 40, **settings})  # type: ignore[arg-type]
    return GenerationRequest(id=str(name), prompt=prompt, settings=generation, seed=seed)


async def probe(engine: RayRolloutEngine) -> tuple[list[Generation], dict[str, int]]:
    """Responses to fixed requests, one after another, and what they added to the counters of drafts."""
    before = asdict(await engine.counters())
    responses = [await engine.generate(request(f"probe {seed}", seed=seed)) for seed in range(8)]
    after = asdict(await engine.counters())
    return responses, {name: after[name] - before[name] for name in after}


def equal(a: list[Generation], b: list[Generation]) -> bool:
    """Same tokens, same log-probabilities."""
    return all(
        x.tokens == y.tokens and torch.allclose(torch.tensor(x.logprobs), torch.tensor(y.logprobs), atol=1e-5)
        for x, y in zip(a, b, strict=True)
    )


def test_responses_follow_their_seed_and_carry_log_probabilities(engines) -> None:
    async def run() -> None:
        engine = engines[0]
        first, again, other = [await engine.generate(request(i, seed=s)) for i, s in enumerate((3, 3, 4))]
        assert first.tokens == again.tokens != other.tokens
        assert len(first.logprobs) == len(first.tokens) and all(logprob <= 0 for logprob in first.logprobs)
        assert first.finish_reason == "length" and len(first.tokens) == 40
        assert (first.policy_version, (await engines[1].generate(request("b"))).policy_version) == (0, 9)
        with pytest.raises(RequestRejected, match="maximum context length"):
            await engine.generate(request("long", prompt=Prompt(id="long", tokens=(5,) * (LONGEST + 1))))

    asyncio.run(run())


def test_long_prompts_with_seeds_of_their_own_at_the_same_time(engines) -> None:
    """Together longer than what vLLM computes at once by default: on CPU a prompt must not be cut in two."""

    async def run() -> None:
        asked = [request(f"both {n}", seed=n, prompt=Prompt(id=f"{n}", tokens=(5 + n,) * 1500)) for n in range(2)]
        answers = await asyncio.gather(*(engines[0].generate(each) for each in asked))
        assert [len(answer.tokens) for answer in answers] == [40, 40]

    asyncio.run(run())


def test_a_cancelled_request_gives_its_seat_back(engines) -> None:
    """Two requests that would take minutes hold both seats of the engine."""

    async def run() -> None:
        engine = engines[0]
        endless = [request(f"endless {i}", temperature=0.0, max_new_tokens=LONGEST - 10) for i in range(2)]
        tasks = [asyncio.create_task(engine.generate(each)) for each in endless]
        await asyncio.sleep(3)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in ended)
        started = time.monotonic()
        async with asyncio.timeout(patience(60)):
            await engine.generate(request("short"))
        print(f"short request after the aborts: {time.monotonic() - started:.2f} s")

    asyncio.run(run())


async def update(engine: RayRolloutEngine, folder: Path, version: int, how: str) -> None:
    """The weights of `folder`, read by the engine, or sent by this process."""
    if how == "folder":
        await engine.update_weights(folder, version)
        return
    point, weights = MeetingPoint("127.0.0.1", free_port(), 2), load_weights(folder)
    sending = asyncio.to_thread(lambda: WeightBroadcast(point, 0, torch.device("cpu")).send(weights.items()))

    async def written() -> Path:
        return folder

    await asyncio.gather(sending, engine.receive_weights(point, 1, version, written))


@pytest.mark.parametrize("how", ["folder", "broadcast"])
def test_new_weights_reach_target_and_draft(engines, folders, how: str) -> None:
    """Against an engine that was started on the new weights; and the comparison can fail."""

    async def run() -> None:
        await engines[0].update_weights(folders[0], policy_version=0)
        old, fresh = await probe(engines[0]), await probe(engines[1])
        assert not equal(old[0], fresh[0])
        assert old[1] != fresh[1]
        in_flight = asyncio.create_task(engines[0].generate(request("in flight", max_new_tokens=2000)))
        await asyncio.sleep(0.2)
        assert not in_flight.done()
        await update(engines[0], folders[1], 5, how)
        assert in_flight.done() and in_flight.result().policy_version == 0, "drained with the old weights"
        updated = await probe(engines[0])
        print(f"drafts: old {old[1]}, fresh {fresh[1]}, updated {updated[1]}")
        assert equal(updated[0], fresh[0])
        assert updated[1] == fresh[1]
        assert fresh[1]["accepted_tokens"] > 20
        assert {response.policy_version for response in updated[0]} == {5}
        with pytest.raises(UserError, match=r"config\.json"):
            await engines[0].update_weights(folders[0] / "nothing", policy_version=6)
        assert (await engines[0].generate(request("after"))).policy_version == 5

    asyncio.run(run())


class ParityReward:
    """Different among a prompt's samples, the same for the same sample."""

    async def score(self, prompt: Prompt, sample: Sample) -> Score:
        odd = float(sum(sample.tokens) % 2)
        return Score(reward=odd, solved=bool(odd))


@pytest.mark.parametrize("victim", ["actor", "vllm"])
def test_a_killed_engine_comes_back_and_no_group_is_lost(engines, folders, victim: str) -> None:
    """SIGKILL to the actor's process, or to vLLM's behind it."""
    prompts = [Prompt(id=str(i), tokens=(5 + i, 80, 17)) for i in range(40)]
    generation = GenerationConfig(max_new_tokens=200)
    retry = RetryConfig(delay_seconds=0.1)
    settings = RolloutConfig(num_groups=4, samples_per_prompt=4, generation=generation, retry=retry)
    scheduler = RolloutScheduler(engines, ParityReward(), PromptSampler(prompts, alpha=0.0), settings)
    engine = engines[0]

    async def run() -> tuple[RolloutBatch, list[int]]:
        await engine.update_weights(folders[1], policy_version=5)
        before = engine.process_ids
        step = asyncio.create_task(scheduler.collect())
        await asyncio.sleep(0.3)
        assert not step.done()
        os.kill(before[0] if victim == "actor" else before[-1], signal.SIGKILL)
        batch = await step
        for _ in range(600):
            with contextlib.suppress(EngineDied):
                back = await engine.generate(request("back"))
                assert back.policy_version == 5
                break
            await asyncio.sleep(1)
        return batch, before

    batch, before = asyncio.run(run())
    assert len(batch.selected) == settings.num_groups
    assert all(group.complete and len(group.samples) == 4 for group in batch.selected)
    assert sum(batch.outcomes.values()) == len(batch.groups) == scheduler.num_launched
    assert batch.outcomes[Outcome.FAULTED] == 0
    retried = [sample for group in batch.groups for sample in group.finished if sample.attempts > 1]
    lost = [span for span in batch.spans if span.kind == "generation" and not span.finished]
    print(f"{len(lost)} requests ended early, {len(retried)} samples came from a second attempt")
    assert not set(before) & set(engine.process_ids)
    assert not any(is_alive(pid) for pid in before)
