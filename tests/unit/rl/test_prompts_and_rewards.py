"""Problems -> prompts, and responses -> scores, on a small real tokenizer, Math-Verify and the judge."""

import asyncio
from pathlib import Path

import pytest

from megatron_mimo.config import UserError
from megatron_mimo.config.rl import RewardConfig, RLDataConfig
from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer
from megatron_mimo.judge import CallTest
from megatron_mimo.reward.math_answer import MathFault
from megatron_mimo.reward.router import RewardRouter
from megatron_mimo.rl.engine_protocol import ScoringFailed
from megatron_mimo.rl.problem_reward import ProblemReward, open_rewards
from megatron_mimo.rl.problems.problem import Problem, write_problems
from megatron_mimo.rl.prompts import PromptEncoder, encode_problems, load_problems
from megatron_mimo.rl.sample import Prompt, Sample

TEXTS = ["Question: 47+38=?\n7+8=15\nAnswer: \\boxed{85}\n", "def twice(x):\n    return 2 * x\n"] * 4


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(TEXTS, 300), folder)
    return str(folder)


def data(tokenizer: str, **options: bool) -> RLDataConfig:
    return RLDataConfig(train=["-"], tokenizer=tokenizer, **options)


def test_plain_prompts_are_the_text_and_come_back(tokenizer: str) -> None:
    encoder = PromptEncoder(data(tokenizer, use_chat_template=False))
    assert encoder.decode(encoder.encode(TEXTS[0])) == TEXTS[0]


def test_chat_prompts_end_where_the_answer_begins(tokenizer: str) -> None:
    from transformers import AutoTokenizer

    encoder = PromptEncoder(data(tokenizer, use_chat_template=True))
    reference = AutoTokenizer.from_pretrained(tokenizer).apply_chat_template(
        [{"role": "user", "content": "47+38=?"}], add_generation_prompt=True, return_dict=False
    )
    assert list(encoder.encode("47+38=?")) == list(reference)


def test_long_prompts_are_left_out_and_told(tokenizer: str) -> None:
    encoder = PromptEncoder(data(tokenizer, use_chat_template=False))
    problems = [Problem(id="short", prompt="1+1", kind="math"), Problem(id="long", prompt="1+1" * 50, kind="math")]
    told: list[str] = []
    prompts = encode_problems(problems, encoder, 20, told.append)
    assert [prompt.id for prompt in prompts] == ["short"]
    assert "1 of 2 problems" in told[0] and "long" in told[0]


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_problems(tmp_path / name, [Problem(id="same", prompt="p", kind="math", answer="1")])
    with pytest.raises(UserError, match="'same' stands twice"):
        load_problems([str(tmp_path / "a"), str(tmp_path / "b")])


def test_a_number_of_problems_of_a_file(tmp_path: Path) -> None:
    write_problems(tmp_path / "p", [Problem(id=f"{n}", prompt="p", kind="math", answer="1") for n in range(50)])
    some = load_problems([f"{tmp_path / 'p'}#10"])
    assert len(some) == 10 and some.keys() <= load_problems([f"{tmp_path / 'p'}#11"]).keys()
    assert list(some) != [f"{n}" for n in range(10)]
    with pytest.raises(UserError, match="number of records"):
        load_problems([f"{tmp_path / 'p'}#all"])


def test_no_tokenizer_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data.tokenizer"):
        PromptEncoder(data(str(tmp_path)))


def test_scores_of_both_kinds(tokenizer: str) -> None:
    tests = [CallTest(function="twice", arguments=[x], expected=2 * x) for x in (1, 2, 10)]
    problems = {
        "sum": Problem(id="sum", prompt="", kind="math", answer="85"),
        "code": Problem(id="code", prompt="", kind="code", tests=list(tests), levels=[0, 0, 1], scores=[0.5, 0.5]),
    }
    encoder = PromptEncoder(data(tokenizer, use_chat_template=False))

    async def scores(answers: list[tuple[str, str]]) -> list[tuple[float, bool]]:
        async with open_rewards(RewardConfig(num_math_workers=1), problems, encoder.decode) as reward:
            results = [
                await reward.score(Prompt(id=name), Sample(tokens=encoder.encode(text), rollout_logprobs=[]))
                for name, text in answers
            ]
        return [(score.reward, score.solved) for score in results]

    lazy = "```python\ndef twice(x):\n    return 2 * x if x < 5 else 0\n```\n"
    answers = [("sum", "\\boxed{85}"), ("sum", "85"), ("code", lazy), ("code", lazy.replace("else 0", "else x + x"))]
    assert asyncio.run(scores(answers)) == [(1.0, True), (0.0, False), (0.5, False), (1.0, True)]


def test_a_fault_of_the_verifier_is_no_score() -> None:
    class Broken:
        async def reward(self, response: str, answer: str) -> float:
            raise MathFault("gone")

    problems = {"sum": Problem(id="sum", prompt="", kind="math", answer="1")}
    reward = ProblemReward(RewardRouter(Broken(), None), problems, lambda tokens: "x")
    with pytest.raises(ScoringFailed, match="gone"):
        asyncio.run(reward.score(Prompt(id="sum"), Sample(tokens=[1], rollout_logprobs=[0.0])))
