"""What can be said of the vLLM engine without vLLM: errors, end tokens, environment, no Ray on import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.config.rl import EngineConfig
from megatron_mimo.rl.engine_protocol import EngineDied, GenerationFailed, RequestRejected
from megatron_mimo.rl.vllm_engine import engine_environment, rollout_fault, stop_token_ids


class VLLMClientError(Exception):
    pass


class VLLMValidationError(VLLMClientError):
    pass


class EngineDeadError(Exception):
    pass


class EngineGenerateError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (EngineDeadError("gone"), EngineDied),
        (VLLMValidationError("prompt too long"), RequestRejected),
        (ValueError("token id 9 is out of the vocabulary"), RequestRejected),
        (EngineGenerateError(), GenerationFailed),
        (RuntimeError("anything else"), GenerationFailed),
        (GenerationFailed("already ours"), GenerationFailed),
    ],
)
def test_every_error_is_one_of_the_schedulers(error: Exception, fault: type) -> None:
    assert type(rollout_fault(error, "engine-0")) is fault


def test_a_failed_generation_names_its_cause() -> None:
    error = EngineGenerateError()
    error.__cause__ = KeyError("the reason")
    assert "the reason" in str(rollout_fault(error, "engine-0"))


@pytest.mark.parametrize(("value", "ids"), [(7, [7]), ([7, 9], [7, 9])])
def test_end_tokens_are_the_models(tmp_path: Path, value: object, ids: list[int]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": value}))
    assert stop_token_ids(tmp_path) == ids


def test_a_model_without_end_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="eos_token_id"):
        stop_token_ids(tmp_path)


def test_the_callers_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    ours = engine_environment(EngineConfig(num_threads=2))
    assert ours["OMP_NUM_THREADS"] == "3"
    assert "VLLM_CPU_KVCACHE_SPACE" not in ours, "it would override EngineConfig.memory_bytes"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert engine_environment(EngineConfig(num_threads=2))["OMP_NUM_THREADS"] == "2"


def test_engine_config_names_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="gpu_memory_ratio"):
        EngineConfig(gpu_memory_ratio=1.5)


def test_importing_the_engines_needs_neither_ray_nor_vllm() -> None:
    program = (
        "import sys; import megatron_mimo.rl.engine_actor; "
        "sys.exit(bool({'ray', 'vllm'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
