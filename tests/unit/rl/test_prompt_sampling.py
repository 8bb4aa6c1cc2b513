import json
import math
import random
from collections import Counter

import pytest

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.rl.prompt_sampling import PromptSampler
from megatron_mimo.rl.sample import Origin, Outcome, Prompt, Sample, SampleGroup


def prompts(number: int) -> list[Prompt]:
    return [Prompt(id=f"p{index}") for index in range(number)]


def ended(prompt: Prompt, origin: Origin, solved: list[bool] | None, outcome: Outcome) -> SampleGroup:
    samples: list[Sample | None] = [None]
    if solved is not None:
        samples = [Sample(tokens=[1], rollout_logprobs=[0.0], reward=float(ok), solved=ok) for ok in solved]
    return SampleGroup(prompt=prompt, launch_index=0, origin=origin, samples=samples, outcome=outcome)


def test_every_prompt_once_an_epoch_in_another_order() -> None:
    sampler = PromptSampler(prompts(50), alpha=0.0)
    epochs = [[sampler.draw()[0].id for _ in range(50)] for _ in range(3)]
    assert all(sorted(epoch) == sorted(f"p{index}" for index in range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = PromptSampler(prompts(50)[::-1], alpha=0.0)
    assert [again.draw()[0].id for _ in range(50)] == epochs[0], "the order of the files must not matter"


def test_aborted_and_surplus_prompts_come_back_first() -> None:
    sampler = PromptSampler(prompts(10), alpha=0.0)
    drawn = [sampler.draw()[0] for _ in range(4)]
    outcomes = [Outcome.ABORTED, Outcome.SELECTED, Outcome.SURPLUS, Outcome.FILTERED]
    for prompt, outcome in zip(drawn, outcomes, strict=True):
        sampler.settle(ended(prompt, "data", None if outcome is Outcome.ABORTED else [True, False], outcome))
    following = [sampler.draw()[0].id for _ in range(8)]
    assert following[:2] == [drawn[0].id, drawn[2].id]
    assert sorted([*following, drawn[1].id, drawn[3].id]) == sorted(f"p{index}" for index in range(10))


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_share_of_easy_draws_is_alpha(alpha: float) -> None:
    sampler = PromptSampler(prompts(300), alpha=alpha, seed=5)
    generator, number = random.Random(1), 20_000
    easy_ids: Counter[str] = Counter()
    for _ in range(number):
        prompt, origin = sampler.draw()
        solved = generator.random() < 0.5 or int(prompt.id[1:]) < 40
        outcome = Outcome.FILTERED if solved else Outcome.SELECTED
        easy_ids[prompt.id] += origin == "easy_pool"
        sampler.settle(ended(prompt, origin, [True, solved], outcome))
    counts = sampler.counts
    assert counts.draws == number
    deviation = math.sqrt(alpha * (1 - alpha) / counts.with_pool)
    assert counts.with_pool > 0.9 * number
    assert abs(counts.easy / counts.with_pool - alpha) < 4 * deviation
    assert sum(easy_ids.values()) == counts.easy


def test_life_of_an_easy_prompt() -> None:
    sampler = PromptSampler(prompts(4), alpha=0.5, seed=2)
    drawn = [sampler.draw()[0] for _ in range(4)]
    sampler.settle(ended(drawn[0], "data", [True, True], Outcome.FILTERED))
    for prompt in drawn[1:]:
        sampler.settle(ended(prompt, "data", [True, False], Outcome.SELECTED))
    assert sampler.pool_size == 1
    origins = {}
    while "easy_pool" not in origins.values():
        prompt, origin = sampler.draw()
        origins[prompt.id] = origin
        assert (prompt.id == drawn[0].id) == (origin == "easy_pool"), "pool prompts are no longer in the data"
    assert not any(sampler.draw()[1] == "easy_pool" for _ in range(50)), "it is being rolled out"
    sampler.settle(ended(drawn[0], "easy_pool", None, Outcome.ABORTED))
    assert sampler.pool_size == 1
    while sampler.draw()[1] != "easy_pool":
        pass
    sampler.settle(ended(drawn[0], "easy_pool", [True, False], Outcome.SELECTED))
    assert sampler.pool_size == 0, "not solved by all samples: back to the data"
    assert drawn[0].id in {sampler.draw()[0].id for _ in range(4)}


def test_solved_prompts_that_are_dropped_never_come_back() -> None:
    sampler = PromptSampler(prompts(4), alpha=0, drop_solved=True, seed=2)
    drawn = [sampler.draw()[0] for _ in range(4)]
    sampler.settle(ended(drawn[0], "data", [True, True], Outcome.FILTERED))
    for prompt in drawn[1:]:
        sampler.settle(ended(prompt, "data", [True, False], Outcome.SELECTED))
    for _ in range(60):
        prompt, origin = sampler.draw()
        assert prompt.id != drawn[0].id and origin == "data"
        sampler.settle(ended(prompt, origin, [True, False], Outcome.SELECTED))
    kept = PromptSampler(prompts(4), alpha=0, seed=2)
    for _ in range(12):
        prompt, _ = kept.draw()
        kept.settle(ended(prompt, "data", [True, True], Outcome.FILTERED))
    assert kept.pool_size == 0 and kept.epoch == 2, "without both, solved prompts stay"


def test_everything_easy_does_not_hang() -> None:
    sampler = PromptSampler(prompts(3), alpha=0.1)
    for _ in range(40):
        prompt, origin = sampler.draw()
        sampler.settle(ended(prompt, origin, [True], Outcome.FILTERED))
    assert sampler.pool_size == 3


def test_state_goes_on_exactly() -> None:
    def course(sampler: PromptSampler, generator: random.Random, number: int) -> list[tuple[str, str]]:
        drawn = []
        for _ in range(number):
            prompt, origin = sampler.draw()
            drawn.append((prompt.id, origin))
            results = generator.choice([[True, True], [True, False], None])
            outcome = Outcome.ABORTED if results is None else Outcome.SURPLUS
            if generator.random() < 0.9:
                sampler.settle(ended(prompt, origin, results, outcome))
        return drawn

    for cut in (0, 7, 60, 200):
        whole = PromptSampler(prompts(40), alpha=0.3, seed=9)
        course(whole, random.Random(4), cut)
        saved = json.loads(json.dumps(whole.state_dict()))
        restored = PromptSampler(prompts(40), alpha=0.3, seed=9)
        restored.load_state_dict(saved)
        assert course(restored, random.Random(8), 150) == course(whole, random.Random(8), 150)
        assert restored.state_dict() == whole.state_dict()


def test_errors() -> None:
    with pytest.raises(UserError, match="no prompts"):
        PromptSampler([])
    with pytest.raises(UserError, match="unique"):
        PromptSampler([Prompt(id="a"), Prompt(id="a")])
    with pytest.raises(ConfigError):
        PromptSampler(prompts(2), alpha=1.0)
    with pytest.raises(UserError, match="seed"):
        PromptSampler(prompts(2), seed=1).load_state_dict(PromptSampler(prompts(2), seed=2).state_dict())
    group = ended(Prompt(id="p0"), "data", None, Outcome.ABORTED)
    group.outcome = None
    with pytest.raises(ValueError, match="not ended"):
        PromptSampler(prompts(2)).settle(group)


def test_no_prompt_twice_in_a_step_while_another_is_left() -> None:
    """Over the ends of epochs and with prompts handed back; every prompt still comes as often as the others."""
    sampler, seen = PromptSampler(prompts(10), alpha=0.0), Counter()
    for step in range(30):
        drawn = [sampler.draw()[0] for _ in range(7)]
        assert len({prompt.id for prompt in drawn}) == 7, step
        for place, prompt in enumerate(drawn):
            outcome = Outcome.SURPLUS if place == 6 else Outcome.SELECTED
            seen[prompt.id] += outcome is Outcome.SELECTED
            sampler.settle(ended(prompt, "data", [True, False], outcome))
    assert sampler.counts.repeated == 0
    assert max(seen.values()) - min(seen.values()) <= 3


def test_data_smaller_than_a_step_repeats_and_counts_it() -> None:
    sampler = PromptSampler(prompts(3), alpha=0.0)
    drawn = [sampler.draw()[0].id for _ in range(9)]
    assert set(drawn[:3]) == {"p0", "p1", "p2"}
    assert sampler.counts.repeated == 6


def test_open_prompts_survive_a_restart() -> None:
    sampler = PromptSampler(prompts(4), alpha=0.0)
    drawn = [sampler.draw()[0].id for _ in range(3)]
    again = PromptSampler(prompts(4), alpha=0.0)
    again.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    assert again.draw()[0].id not in drawn
