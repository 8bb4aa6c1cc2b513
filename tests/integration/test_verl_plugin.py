# ruff: noqa: E402
"""The plugin inside verl (0.9.1 and its main branch), as far as verl runs without a GPU: not its engines and model."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("verl", reason="needs verl 0.9.1 (docs/verl.md)")
pytestmark = pytest.mark.slow

import ray
import transfer_queue as tq
from torchdata.stateful_dataloader import StatefulDataLoader
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage, compute_policy_loss_vanilla, get_policy_loss_fn
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config.model import MtpConfig

import megatron_mimo.rl.verl_plugin.register  # noqa: F401  fills verl's registries
from megatron_mimo.config import UserError
from megatron_mimo.config.rl import PolicyLossConfig
from megatron_mimo.judge.request import StdioTest
from megatron_mimo.rl.advantage import group_advantages
from megatron_mimo.rl.policy_loss import policy_loss
from megatron_mimo.rl.problems.problem import Problem
from megatron_mimo.rl.sample import Outcome, Sample, SampleGroup
from megatron_mimo.rl.verl_plugin.problem_rows import from_ground_truth, to_row, write_rows
from megatron_mimo.rl.verl_plugin.prompt_feed import EasyPoolSampler
from megatron_mimo.rl.verl_plugin.trainer import SeamlessTrainer
from support.patience import patience
from support.verl_world import Engines, verl_config, write_tokenizer

ROOT = Path(__file__).parents[2]

FIND_PLUGIN = """
import json, verl
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.trainer.ppo.v1 import get_trainer_cls
found = [get_reward_manager_cls("mimo"), get_policy_loss_fn("mimo"), get_trainer_cls("mimo_seamless")]
print(json.dumps([f"{part.__module__}.{part.__name__}" for part in found]))
"""


@pytest.mark.timeout(1500)
def test_verl_finds_the_plugin_by_its_entry_point(tmp_path: Path) -> None:
    """The metadata that an installation writes, from setup.py, is all that verl is given."""
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=patience(300), capture_output=True)
    searched = filter(None, [os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path), *searched])}
    for policy, found in (("auto", True), ("none", False)):
        done = subprocess.run(
            [sys.executable, "-c", FIND_PLUGIN],
            env={**environment, "VERL_USE_EXTERNAL_PLUGINS": policy},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=patience(600),
            check=False,
        )
        assert (done.returncode == 0) == found, done.stderr
        if found:
            folder = "megatron_mimo.rl.verl_plugin"
            assert json.loads(done.stdout.splitlines()[-1]) == [
                f"{folder}.reward_manager.MimoRewardManager",
                f"{folder}.policy_loss.mimo_policy_loss",
                f"{folder}.trainer.SeamlessTrainer",
            ]


def adder() -> Problem:
    return Problem(
        id="adder",
        prompt="Print the sum of two numbers.",
        kind="code",
        tests=[StdioTest(stdin="1 2", stdout="3"), StdioTest(stdin="-5 2", stdout="-3")],
        levels=[0, 1],
        scores=[0.25, 0.75],
    )


GOOD_PROGRAM = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"
EASY_PROGRAM = "```python\na, b = map(int, input().split())\nprint(abs(a) + abs(b))\n```"
HALF = Problem(id="half", prompt="One half?", kind="math", answer="\\frac{1}{2}")


def as_data(tokenizer: Any, problems: list[Problem], responses: list[str]) -> DataProto:
    """What an agent loop sends to the reward loop: padded rows."""
    rows = [to_row(problem, index) for index, problem in enumerate(problems)]
    encoded = [tokenizer.encode(text) for text in responses]
    longest = max(len(tokens) for tokens in encoded)
    responses_ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in encoded])
    mask = torch.tensor([[1, 1] + [1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in encoded])
    return DataProto.from_dict(
        tensors={"prompts": torch.zeros(len(rows), 2).long(), "responses": responses_ids, "attention_mask": mask},
        non_tensors={name: np.array([row[name] for row in rows], dtype=object) for name in rows[0]},
    )


def reward_config(folder: Path, *overrides: str) -> Any:
    return verl_config(
        "reward.reward_manager.name=mimo",
        f"actor_rollout_ref.model.path={folder}",
        "+reward.reward_kwargs.math_timeout_seconds=60",
        *overrides,
    )


def test_reward_loop_scores_mathematics(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path)
    worker = RewardLoopWorker(reward_config(tmp_path))
    answers = ["It is \\boxed{0.5}.", "It is \\boxed{2}.", "0.5", "\\boxed{3} no, \\boxed{\\frac12}"]
    results = asyncio.run(worker.compute_score_batch(as_data(tokenizer, [HALF] * 4, answers)))
    assert [result["reward_score"] for result in results] == [1.0, 0.0, 0.0, 1.0]
    assert [result["reward_extra_info"]["acc"] for result in results] == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
@pytest.mark.parametrize(("scheme", "of_easy"), [("strict", 0.25), ("soft", 0.25)])
def test_reward_loop_scores_code_by_test_difficulty(tmp_path: Path, scheme: str, of_easy: float) -> None:
    tokenizer = write_tokenizer(tmp_path)
    worker = RewardLoopWorker(reward_config(tmp_path, f"+reward.reward_kwargs.scheme={scheme}"))
    answers = [GOOD_PROGRAM, EASY_PROGRAM, "```python\nprint(7)\n```", "no program"]
    results = asyncio.run(worker.compute_score_batch(as_data(tokenizer, [adder()] * 4, answers)))
    assert [result["reward_score"] for result in results] == [1.0, of_easy, 0.0, 0.0]


def test_a_dead_judge_is_no_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron_mimo.judge.client import JudgeUnavailable
    from megatron_mimo.rl.verl_plugin import reward_manager

    class DeadJudge:
        async def judge(self, *_: Any, **__: Any) -> Any:
            raise JudgeUnavailable("gone")

    monkeypatch.setattr(reward_manager, "LazyJudge", lambda settings: DeadJudge())
    monkeypatch.setattr(reward_manager.RetryConfig, "pause_seconds", lambda self, failures: 0.0)
    tokenizer = write_tokenizer(tmp_path)
    worker = RewardLoopWorker(reward_config(tmp_path))
    with pytest.raises(reward_manager.RewardFault):
        asyncio.run(worker.compute_score_batch(as_data(tokenizer, [adder()], [GOOD_PROGRAM])))


def test_settings_with_a_typing_error_are_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    with pytest.raises(UserError, match="did you mean scheme"):
        RewardLoopWorker(reward_config(tmp_path, "+reward.reward_kwargs.schema=soft"))


def test_rows_keep_every_kind_of_problem() -> None:
    for problem in (adder(), HALF):
        assert from_ground_truth(to_row(problem, 3)["reward_model"]["ground_truth"]) == problem


MTP = {
    "off": {},
    "load": {"enable": True},
    "detached": {"enable": True, "enable_train": True, "detach_encoder": True, "mtp_loss_scaling_factor": 0.1},
    "joint": {"enable": True, "enable_train": True, "mtp_loss_scaling_factor": 0.1},
    "draft-vllm": {"enable": True, "enable_rollout": True, "method": "mtp", "num_speculative_tokens": 1},
    "draft-sglang": {
        "enable": True, "enable_rollout": True, "speculative_algorithm": "EAGLE", "speculative_num_steps": 2,
        "speculative_eagle_topk": 2, "speculative_num_draft_tokens": 4,
    },
}  # fmt: skip
"""The scenarios of verl's docs/advance/mtp.md, section 2; what is not named has verl's default."""


@pytest.mark.parametrize("name", MTP)
def test_the_example_sets_mtp_as_the_guide_of_verl_does(name: str) -> None:
    """verl takes every argument of the example, and its typed MTP settings are those of the guide."""
    script = str(ROOT / "examples" / "mimo_7b" / "verl.sh")
    done = subprocess.run([script, "--print", name, "train", "valid"], capture_output=True, text=True, check=True)
    config = verl_config(*done.stdout.splitlines())
    assert omega_conf_to_dataclass(config.actor_rollout_ref.model.mtp) == MtpConfig(**MTP[name])
    actor = config.actor_rollout_ref.actor
    assert actor.strategy == "megatron" and actor.policy_loss.loss_mode == "mimo"
    assert config.actor_rollout_ref.rollout.name == ("sglang" if name == "draft-sglang" else "vllm")
    assert config.data.train_batch_size // actor.ppo_mini_batch_size == 16


def random_batch(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (12, 40)
    old = -torch.rand(shape, generator=generator, dtype=torch.float64) * 4
    lengths = torch.randint(1, 41, (12,), generator=generator)
    return {
        "old": old,
        "new": old + 0.4 * torch.randn(shape, generator=generator, dtype=torch.float64),
        "advantages": torch.randn((12, 1), generator=generator, dtype=torch.float64).expand(shape),
        "mask": (torch.arange(40) < lengths[:, None]).double(),
    }


def actor_config(*overrides: str) -> Any:
    config = verl_config(
        "actor_rollout_ref.actor.clip_ratio_low=0.2",
        "actor_rollout_ref.actor.clip_ratio_high=0.28",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
        *overrides,
    )
    return omega_conf_to_dataclass(config.actor_rollout_ref.actor)


@pytest.mark.parametrize("seed", range(5))
def test_eq_1_equals_verl_with_its_extras_off(seed: int) -> None:
    """Loss and gradient. A dual clip at 1e9 is out of reach, and so is the clamp at 20 for these ratios."""
    batch, results = random_batch(seed), []
    config = actor_config("actor_rollout_ref.actor.clip_ratio_c=1e9")
    new = [batch["new"].clone().requires_grad_() for _ in range(3)]
    arguments = (batch["advantages"], batch["mask"])
    results.append(compute_policy_loss_vanilla(batch["old"], new[0], *arguments, "token-mean", config)[0])
    tokens = float(batch["mask"].sum())
    results.append(policy_loss(new[1], batch["old"], *arguments, global_tokens=tokens).loss)
    results.append(get_policy_loss_fn("mimo")(batch["old"], new[2], *arguments, "token-mean", config)[0])
    for result in results:
        result.backward()
    for mine, gradient in zip(results[1:], new[1:], strict=True):
        torch.testing.assert_close(mine, results[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(gradient.grad, new[0].grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_switches_equal_verl_as_it_is(seed: int) -> None:
    """Dual clip 3 and the clamp at 20, with ratios that reach both."""
    batch = random_batch(seed)
    new = batch["old"] + 8 * (batch["new"] - batch["old"])
    new[0, 0] = batch["old"][0, 0] + 25
    theirs, _ = compute_policy_loss_vanilla(
        batch["old"], new, batch["advantages"], batch["mask"], "token-mean", actor_config()
    )
    options = PolicyLossConfig(dual_clip=3.0, log_ratio_limit=20.0)
    tokens = float(batch["mask"].sum())
    mine = policy_loss(
        new, batch["old"], batch["advantages"], batch["mask"], global_tokens=tokens, options=options
    ).loss
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_the_loss_of_micro_batches_adds_up_in_verl_too() -> None:
    """With verl's counts of the whole batch and two ranks, whose gradients are averaged."""
    batch, config = random_batch(0), actor_config()
    whole = policy_loss(
        batch["new"], batch["old"], batch["advantages"], batch["mask"], global_tokens=float(batch["mask"].sum())
    ).loss
    config.global_batch_info.update(dp_size=2, batch_num_tokens=batch["mask"].sum())
    loss = get_policy_loss_fn("mimo")
    parts = [
        loss(*(batch[name][rows] for name in ("old", "new", "advantages", "mask")), "token-mean", config)[0]
        for rows in (slice(0, 5), slice(5, 12))
    ]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("by_std", [True, False])
def test_advantages_equal_verl(by_std: bool) -> None:
    """verl adds 1e-6 to the standard deviation; groups of several sizes, two of them without a signal."""
    generator = torch.Generator().manual_seed(3)
    index = torch.arange(40) % 5
    rewards = torch.randint(0, 5, (40,), generator=generator).double() / 4
    rewards[index == 0], rewards[index == 1] = 1.0, 0.0
    scores = torch.zeros(40, 6, dtype=torch.float64)
    scores[:, 3] = rewards
    mask = torch.ones(40, 6, dtype=torch.float64)
    theirs, _ = compute_grpo_outcome_advantage(scores, mask, index.numpy(), norm_adv_by_std_in_grpo=by_std)
    mine = group_advantages(rewards, index, divide_by_std=by_std, epsilon=1e-6 if by_std else 0.0)
    torch.testing.assert_close(mine, theirs[:, 0], rtol=0, atol=1e-6)
    exact = group_advantages(rewards, index, divide_by_std=by_std)
    torch.testing.assert_close(exact, theirs[:, 0], rtol=1e-5, atol=1e-6)


class Rows(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 30

    def __getitem__(self, row: int) -> int:
        return row


def draw_and_settle(loader: Any, iterator: Any, number: int) -> list[tuple[int, str]]:
    """Rows divisible by 3 are solved by all, every fourth draw is aborted; everything else has a signal."""
    seen = []
    for _ in range(number):
        aborted = loader.sampler.prompts.counts.draws % 4 == 3
        row = int(next(iterator)[0])
        ((prompt, origin),) = loader.sampler.take_draws(1)
        assert int(prompt.id) == row
        solved = [True, row % 3 == 0]
        samples = [Sample(tokens=(), rollout_logprobs=(), reward=float(ok), solved=ok) for ok in solved]
        outcome = Outcome.ABORTED if aborted else Outcome.FILTERED if all(solved) else Outcome.SELECTED
        group_samples = [None, None] if outcome is Outcome.ABORTED else samples
        group = SampleGroup(prompt=prompt, launch_index=0, origin=origin, samples=list(group_samples), outcome=outcome)
        loader.sampler.settle(group)
        seen.append((row, origin))
    return seen


def test_the_sampler_resumes_inside_the_dataloader() -> None:
    def loader() -> Any:
        sampler = EasyPoolSampler(30, alpha=0.3, seed=7)
        return StatefulDataLoader(Rows(), batch_size=1, num_workers=0, sampler=sampler)

    for stop in (0, 1, 17, 60):
        first = loader()
        iterator = iter(first)
        draw_and_settle(first, iterator, stop)
        saved = json.loads(json.dumps(first.state_dict()))
        expected = draw_and_settle(first, iterator, 90)
        second = loader()
        second.load_state_dict(saved)
        assert draw_and_settle(second, iter(second), 90) == expected
    assert {"easy_pool", "data"} == {origin for _, origin in expected}


NUM_ROWS, BATCH, SAMPLES = 40, 4, 2


@pytest.fixture(scope="module")
def transfer_queue() -> Any:
    for attempt in range(3):
        # Ray gives its own processes 30 seconds to start, which a busy machine can exceed.
        try:
            ray.init(num_cpus=8, include_dashboard=False, ignore_reinit_error=True, log_to_driver=False)
            break
        except Exception:
            ray.shutdown()
            if attempt == 2:
                raise
    tq.init(verl_config("transfer_queue.backend.SimpleStorage.num_data_storage_units=1").transfer_queue)
    yield
    tq.close()
    ray.shutdown()


def make_trainer(folder: Path, engines: Engines, *overrides: str) -> SeamlessTrainer:
    """The real trainer without GPUs: the model's phases of a step do nothing."""
    tokenizer = write_tokenizer(folder / "tokenizer")
    problems = [Problem(id=f"{row}", prompt=f"{row}?", kind="math", answer=f"{row}") for row in range(NUM_ROWS)]
    write_rows(folder / "rows.parquet", problems)
    config = verl_config(
        "trainer.v1.trainer_mode=mimo_seamless",
        f"data.train_files={folder}/rows.parquet",
        f"data.val_files={folder}/rows.parquet",
        f"data.train_batch_size={BATCH}",
        f"actor_rollout_ref.rollout.n={SAMPLES}",
        "data.seed=1",
        "data.dataloader_num_workers=0",
        "+trainer.v1.sampler.sampler_kwargs.poll_interval_seconds=0.05",
        "+trainer.v1.sampler.sampler_kwargs.easy_pool_alpha=0.25",
        *overrides,
    )
    trainer = SeamlessTrainer(config)
    trainer.tokenizer, trainer.processor = tokenizer, None
    trainer._init_dataloader()
    trainer.global_steps, trainer.curr_step_profile, trainer.timing_raw = 1, False, {}
    trainer.agent_loop_manager = trainer.checkpoint_manager = engines  # type: ignore[assignment]
    trainer.reward_loop_manager = SimpleNamespace(reward_loop_worker_handles=[])  # type: ignore[assignment]
    trainer.use_reference_policy = trainer.use_critic = False
    for phase in ("_balance_batch", "_compute_old_log_prob", "_compute_advantage", "_update_actor"):
        setattr(trainer, phase, lambda batch, metrics: batch)
    return trainer


def run_step(trainer: SeamlessTrainer) -> tuple[list[str], dict[str, float]]:
    """(uids of the batch, metrics); clears the batch as verl's fit does."""
    metrics: dict[str, float] = {}
    batch = trainer.step(metrics, {})
    stored = tq.kv_list("train").get("train", {})
    assert set(stored) == set(batch.keys), "only the batch may be left in the queue"
    trainer.on_step_end()
    tq.kv_clear(keys=batch.keys, partition_id="train")
    trainer.global_steps += 1
    assert len(batch.keys) == BATCH * SAMPLES
    return list(dict.fromkeys(key.split("_")[0] for key in batch.keys)), metrics


def accuracies(row: int) -> list[float]:
    """A third of the rows is solved by all, a third by none."""
    return [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]][row % 3]


def test_a_step_of_the_trainer_is_first_in_first_out(tmp_path: Path, transfer_queue: Any) -> None:
    engines = Engines(SAMPLES, lambda row: 1.5 if row % 6 == 0 else 0.05, accuracies, lambda row: row % 9 == 3)
    trainer = make_trainer(tmp_path, engines)
    for _ in range(3):
        launched_before = len(engines.launched)
        uids, metrics = run_step(trainer)
        launched = engines.launched[launched_before:]
        mixed = [uid for uid, row in launched if row % 3 == 0 and row % 9 != 3]
        assert set(uids) == set(mixed[:BATCH])
        assert sum(metrics[f"training/seamless/{outcome}_groups"] for outcome in Outcome) == len(launched)
        assert metrics["training/seamless/selected_groups"] == BATCH
    assert engines.calls == ["abort", "sleep", "update", "resume"] * 3
    # Some slow row was waited for although enough fast ones were there.
    assert any(row % 6 == 0 for uid, row in engines.launched if uid in uids)


def test_the_trainer_goes_on_with_the_same_prompts(tmp_path: Path, transfer_queue: Any) -> None:
    def start() -> tuple[SeamlessTrainer, Engines]:
        engines = Engines(SAMPLES, lambda row: 0.0, accuracies)
        return make_trainer(tmp_path, engines, "+trainer.v1.sampler.sampler_kwargs.max_active_groups=1"), engines

    first, engines = start()
    for _ in range(2):
        run_step(first)
    torch.save(first.train_dataloader.state_dict(), tmp_path / "data.pt")
    seen = len(engines.launched)
    for _ in range(2):
        run_step(first)
    second, resumed = start()
    second.train_dataloader.load_state_dict(torch.load(tmp_path / "data.pt", weights_only=True))
    for _ in range(2):
        _, metrics = run_step(second)
    assert [row for _, row in resumed.launched] == [row for _, row in engines.launched[seen:]]
    assert metrics["training/seamless/easy_pool_size"] > 0


def test_prompts_without_a_signal_end_the_run(tmp_path: Path, transfer_queue: Any) -> None:
    engines = Engines(SAMPLES, lambda row: 0.0, lambda row: [0.0, 0.0])
    trainer = make_trainer(tmp_path, engines, "+trainer.v1.sampler.sampler_kwargs.max_launched_groups=12")
    with pytest.raises(UserError, match="12 prompts gave 0 of 4"):
        trainer.step({}, {})
    engines.wait()
    keys = tq.kv_list("train").get("train", {})
    tq.kv_clear(keys=list(keys), partition_id="train")
