from pathlib import Path

import pytest

from megatron_mimo.config import UserError, load, to_yaml
from megatron_mimo.config.rl import RLConfig

SMALL = """
name: small
output_dir: out
model:
  num_layers: 2
  hidden_size: 64
  ffn_hidden_size: 128
  num_attention_heads: 4
  num_query_groups: 2
  kv_channels: 16
  vocab_size: 512
start: {checkpoint: base}
data: {train: [problems.jsonl]}
num_steps: 3
"""


def write(folder: Path, text: str) -> str:
    path = folder / "rl.yaml"
    path.write_text(text)
    return str(path)


def test_defaults_are_the_report(tmp_path: Path) -> None:
    config = load(RLConfig, [write(tmp_path, SMALL)])
    assert (config.rollout.num_groups, config.mini_batch_groups, config.updates_per_step) == (512, 32, 16)
    assert config.learning_rate == 1e-6 and config.rollout.generation.max_new_tokens == 32_768
    assert config.rollout.generation.temperature == config.rollout.generation.top_p == 1.0
    assert config.data.easy_pool_alpha == 0.1
    assert config.loss.clip_ratio_high > config.loss.clip_ratio_low
    assert config.loss.kl_coefficient == 0.0
    assert config.loss.dual_clip is config.loss.importance_cap is config.loss.log_ratio_limit is None
    assert config.divide_advantages_by_std and not config.overlong_masking and not config.on_policy


def test_round_trip(tmp_path: Path) -> None:
    config = load(RLConfig, [write(tmp_path, SMALL), "rollout.retry.max_restarts=7", "loss.dual_clip=3"])
    assert config.rollout.retry.max_restarts == 7 and config.loss.dual_clip == 3.0
    assert load(RLConfig, [write(tmp_path, to_yaml(config))]) == config


def test_length_schedule(tmp_path: Path) -> None:
    budgets = "length_schedule=[{from_step: 2, max_new_tokens: 38000}, {from_step: 5, max_new_tokens: 48000}]"
    config = load(RLConfig, [write(tmp_path, SMALL), budgets, "on_policy=true"])
    assert [config.max_new_tokens(step) for step in (0, 1, 2, 4, 5, 99)] == [32768, 32768, 38000, 38000, 48000, 48000]
    assert config.updates_per_step == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("mini_batch_groups=30", "must divide"),
        ("rollout.survival_prior=0", "survival_prior"),
        ("rollout.max_launched_groups=3", "num_groups"),
        ("data.easy_pool_alpha=1", "easy_pool_alpha"),
        ("rollout.generation.top_p=0", "top_p"),
        ("rollout.retry.reward_timeout_seconds=-1", "reward_timeout_seconds"),
        ("scheduling=fast", "seamless"),
        ("loss.clip_ratio_high=0.1", "clip-higher"),
        ("loss.kl_coefficient=-0.1", "kl_coefficient"),
        ("data.drop_solved=true", "easy_pool_alpha=0"),
    ],
)
def test_wrong_settings(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(RLConfig, [write(tmp_path, SMALL), override])
