"""Reading a configuration: what is written, in any spelling, becomes the typed value, or an error with its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.config import (
    BatchRamp,
    ConfigError,
    LearningRateSegment,
    PretrainConfig,
    PretrainStageConfig,
    UserError,
    to_yaml,
)
from megatron_mimo.config import load as load_config
from megatron_mimo.config.judge import JudgeConfig
from megatron_mimo.config.load import from_tree

EXAMPLES = Path(__file__).parents[3] / "examples"

SMALL = """
name: small
output_dir: runs/small
model: {num_layers: 2, hidden_size: 64, ffn_hidden_size: 128, num_attention_heads: 4, num_query_groups: 2,
        kv_channels: 16, vocab_size: 256}
stages:
  - name: one
    tokens: 84e3
    seq_length: 64
    rotary_base: 10000
    mixture: one.yaml
    global_batch_size: 8
    learning_rate:
      - {kind: linear, tokens: 4e3, start: 0, end: 3e-4}
      - {kind: constant, tokens: 80e3, start: 3e-4, end: 3e-4}
  - name: two
    tokens: 1000
    seq_length: 128
    rotary_base: 640000
    mixture: two.yaml
    global_batch_size: 4
    learning_rate: [{kind: cosine, tokens: 1000, start: 3e-4, end: 1e-5}]
data: {path: data, tokenizer: data/tokenizer}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def load_with(path: Path, *overrides: str) -> PretrainConfig:
    return load_config(PretrainConfig, [str(path), *overrides])


def test_values_arrive_typed(small: Path) -> None:
    config = load_with(small)
    assert (config.stages[0].tokens, type(config.stages[0].tokens)) == (84_000, int)
    segment = config.stages[0].learning_rate[0]
    assert segment == LearningRateSegment(kind="linear", tokens=4_000, start=0.0, end=3e-4)
    assert type(segment.start) is float
    assert config.optimizer.adam_beta2 == 0.95 and config.max_steps is None


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("84e9", 84_000_000_000),
        ("84.0e+9", 84_000_000_000),
        ("17.784e12", 17_784_000_000_000),
        ("23_784_000_000_000", 23_784_000_000_000),
        ("9007199254740993", 2**53 + 1),
        ("1E3", 1000),
        ("'1000'", 1000),
    ],
)
def test_spellings_of_whole_numbers(small: Path, text: str, tokens: int) -> None:
    assert load_with(small, f"evaluation.every_tokens={text}").evaluation.every_tokens == tokens


@pytest.mark.parametrize(
    ("text", "value"), [("1e-8", 1e-8), ("1.0e-8", 1e-8), ("3", 3.0), (".5", 0.5), ("'0.25'", 0.25)]
)
def test_spellings_of_numbers(small: Path, text: str, value: float) -> None:
    adam_eps = load_with(small, f"optimizer.adam_eps={text}").optimizer.adam_eps
    assert (adam_eps, type(adam_eps)) == (value, float)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.num_layers=abc", "model.num_layers = 'abc': expected a whole number"),
        ("model.num_layers=2.5", "model.num_layers = 2.5: expected a whole number"),
        ("model.num_layers=true", "model.num_layers = True: expected a whole number"),
        ("model.num_layers=", "model.num_layers = None: expected a whole number"),
        ("model.num_layers=[2]", "model.num_layers = [2]: expected a whole number"),
        ("model.num_layers=.inf", "model.num_layers = inf: expected a whole number"),
        ("model.num_layers=1e400", "model.num_layers = '1e400': expected a whole number"),
        ("evaluation.every_tokens=x", "evaluation.every_tokens = 'x': expected a whole number"),
        ("optimizer.clip_grad=big", "optimizer.clip_grad = 'big': expected a number"),
        ("optimizer.clip_grad=.nan", "optimizer.clip_grad = nan: expected a number"),
        ("optimizer.clip_grad=false", "optimizer.clip_grad = False: expected a number"),
        ("parallel.sequence_parallel=1", "parallel.sequence_parallel = 1: expected true or false"),
        ("parallel.sequence_parallel=maybe", "parallel.sequence_parallel = 'maybe': expected true or false"),
        ("name=7", "name = 7: expected text (put a number in quotes)"),
        ("precision.dtype=fp16", "precision.dtype = 'fp16': expected one of auto, bf16, fp32"),
        ("guard.on_spike=true", "guard.on_spike = True: expected one of ignore, skip, rollback, stop"),
        (
            "stages.0.learning_rate.1.kind=sine",
            "stages.0.learning_rate.1.kind = 'sine': expected one of linear, constant",
        ),
        ("stages.1.tokens=many", "stages.1.tokens = 'many': expected a whole number"),
        ("seed.x=4", "seed = {'x': 4}: expected a whole number"),
        ("stages=5", "stages = 5: expected a list"),
        ("stages.0.learning_rate.0=3", "stages.0.learning_rate.0 = 3: expected a mapping of keys to values"),
        ("model=5", "model = 5: expected a mapping of keys to values"),
        ("stages.0.batch_ramp=5", "stages.0.batch_ramp = 5: expected a mapping"),
        ("logging.profile_steps=[1, x]", "logging.profile_steps.1 = 'x': expected a whole number"),
    ],
)
def test_a_wrong_type_names_key_value_expectation_and_override(small: Path, override: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        load_with(small, "max_steps=1", override)
    assert f"override {override}: config error: {expected}" in str(error.value)


def test_a_wrong_type_in_the_file_names_the_file(small: Path) -> None:
    small.write_text(SMALL.replace("num_layers: 2", "num_layers: two"))
    with pytest.raises(UserError) as error:
        load_with(small, "seed=1")
    assert str(error.value) == f"{small}: config error: model.num_layers = 'two': expected a whole number"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.num_layer=4", "model.num_layer = 4: unknown key; did you mean model.num_layers?"),
        ("sead=4", "sead = 4: unknown key; did you mean seed?"),
        ("stages.1.seq_len=4", "stages.1.seq_len = 4: unknown key; did you mean stages.1.seq_length?"),
        ("stages.0.learning_rate.1.begin=4", "stages.0.learning_rate.1.begin = 4: unknown key; known keys: end, kind"),
        ("optimiser.lr=4", "optimiser = {'lr': 4}: unknown key; did you mean optimizer?"),
    ],
)
def test_an_unknown_key_gets_a_hint(small: Path, override: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        load_with(small, override)
    assert f"config error: {expected}" in str(error.value)


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("name: small", "name"),
        ("num_layers: 2, ", "model.num_layers"),
        ("    seq_length: 128", "stages.1.seq_length"),
        ("start: 3e-4, end: 1e-5", "stages.1.learning_rate.0.start"),
        ("data: {path: data, tokenizer: data/tokenizer}", "data"),
    ],
)
def test_a_missing_key_is_named_with_its_place(small: Path, line: str, missing: str) -> None:
    assert SMALL.count(line) == 1
    small.write_text(SMALL.replace(line, ""))
    with pytest.raises(UserError) as error:
        load_with(small)
    assert str(error.value) == f"{small}: config error: {missing} is missing; it has no default"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "stages.1.micro_batch_size=3",
            "global_batch_size = 4: must be a multiple of micro_batch_size=3 (in stages.1)",
        ),
        ("stages.0.learning_rate.1.tokens=0", "a segment needs at least one token (in stages.0.learning_rate.1)"),
    ],
)
def test_a_check_of_a_list_item_says_which_item(small: Path, override: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        load_with(small, override)
    assert expected in str(error.value)


def test_overrides_reach_nested_keys_and_list_items(small: Path) -> None:
    config = load_with(
        small,
        "--seed=7",
        "name=other",
        "stages.1.tokens=2e3",
        "stages.1.learning_rate.0.tokens=2000",
        "stages.0.batch_ramp={start: 2, increment: 2, tokens: 1000}",
        "evaluation.sequences=5",
        "logging.profile_steps=[3, 5]",
        "max_steps=null",
        "output_dir=a=b",
        "seed=8",
    )
    assert (config.seed, config.name, config.output_dir) == (8, "other", "a=b")
    assert config.stages[1].tokens == 2000
    assert config.stages[0].batch_ramp == BatchRamp(start=2, increment=2, tokens=1000)
    assert config.evaluation.sequences == 5 and config.logging.profile_steps == [3, 5]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.num_layers", "write key=value"),
        ("--resume", "write key=value"),
        ("=4", "write key=value"),
        ("stages.2.tokens=4", "'2' is not one of 0..1"),
        ("stages.-1.tokens=4", "'-1' is not one of 0..1"),
        ("stages.first.tokens=4", "'first' is not one of 0..1"),
        ("name.x=4", "'name' holds a single value"),
        ("name={a", "not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_applied(small: Path, override: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        load_with(small, override)
    assert repr(override) in str(error.value) and expected in str(error.value)


def test_an_override_into_an_empty_section(small: Path) -> None:
    small.write_text(SMALL + "evaluation:\n")
    assert load_with(small, "evaluation.sequences=5").evaluation.sequences == 5


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b"- 1\n- 2", "must hold a mapping"),
        (b"", "must hold a mapping"),
        (b"seed: 1\nname: x\nseed: 2\n", "the key 'seed' stands twice"),
        (b"model: {num_layers: 1, num_layers: 2}", "the key 'num_layers' stands twice"),
        (b"a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_with(path)
    assert str(path) in str(error.value) and expected in str(error.value)


def test_missing_file_and_missing_argument(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: No such file"):
        load_with(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match=r"usage: CONFIG\.yaml"):
        load_config(PretrainConfig, [])


def test_yaml_anchors_may_be_merged_and_overridden(small: Path) -> None:
    text = SMALL.replace("[{kind: cosine, tokens: 1000, start: 3e-4, end: 1e-5}]",
                         "[&s {kind: cosine, tokens: 400, start: 3e-4, end: 1e-5}, {<<: *s, tokens: 600}]")  # fmt: skip
    small.write_text(text)
    first, second = load_with(small).stages[1].learning_rate
    assert (first.tokens, second.tokens, second.end) == (400, 600, 1e-5)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/pretrain.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_load_and_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = load_with(path)
    resolved = tmp_path / "config.yaml"
    resolved.write_text(to_yaml(config))
    assert load_with(resolved) == config


def test_mimo_7b_has_the_report_shape() -> None:
    model = load_with(EXAMPLES / "mimo_7b" / "pretrain.yaml").model
    assert (model.num_layers, model.hidden_size, model.ffn_hidden_size) == (36, 4096, 11008)
    assert (model.num_attention_heads, model.num_query_groups, model.kv_channels) == (32, 8, 128)
    assert (model.vocab_size, model.layernorm_epsilon, model.mtp_num_layers) == (151680, 1e-5, 1)


numbers = st.floats(min_value=0, max_value=1e6, allow_nan=False)
positive = st.floats(min_value=1e-30, max_value=1e6)
sizes = st.integers(1, 10**14)
texts = st.text(max_size=12)


@st.composite
def stage_configs(draw: st.DrawFn, number: int) -> PretrainStageConfig:
    curve = [
        LearningRateSegment(kind=draw(st.sampled_from(["linear", "cosine"])), tokens=draw(sizes),
                            start=draw(numbers), end=draw(numbers))
        for _ in range(draw(st.integers(1, 3)))
    ]  # fmt: skip
    tokens = sum(segment.tokens for segment in curve)
    return PretrainStageConfig(name=f"{draw(texts)}{number}", tokens=tokens, seq_length=draw(sizes),
                       rotary_base=draw(sizes), mixture=draw(texts), learning_rate=curve,
                       global_batch_size=draw(sizes),
                       batch_ramp=draw(st.none() | st.just(BatchRamp(start=1, increment=1, tokens=1))))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_configuration_survives_the_round_trip(data: st.DataObject) -> None:
    """Through real YAML text: odd strings ("null", "1e5", "yes", newlines) and any float come back equal."""
    base = from_tree(PretrainConfig, yaml.safe_load(SMALL), "SMALL")
    base.name = data.draw(texts | st.sampled_from(["null", "1e5", "yes", "~", "3", "a: b", "#"]))
    base.output_dir = data.draw(texts)
    base.stages = [data.draw(stage_configs(number)) for number in range(data.draw(st.integers(1, 3)))]
    base.optimizer.adam_eps = data.draw(positive)
    base.max_steps = data.draw(st.none() | sizes)
    assert from_tree(PretrainConfig, yaml.safe_load(to_yaml(base)), "round trip") == base


def test_config_errors_are_user_errors() -> None:
    error = ConfigError("a.b", 3, "try 4")
    assert isinstance(error, UserError) and str(error) == "config error: a.b = 3: try 4"


def test_from_tree_names_its_source() -> None:
    tree: dict[str, Any] = {"name": "x"}
    with pytest.raises(UserError, match=r"^run\.json: config error: output_dir is missing"):
        from_tree(PretrainConfig, tree, source="run.json")


def test_lists_become_the_tuples_that_a_configuration_asks_for() -> None:
    judged = from_tree(JudgeConfig, {"compiler_arguments": ["-O1", "-pipe"], "python_packages": []}, "file.yaml")
    assert judged.compiler_arguments == ("-O1", "-pipe") and judged.python_packages == ()
    assert from_tree(JudgeConfig, yaml.safe_load(to_yaml(judged)), "file.yaml") == judged
    with pytest.raises(UserError, match=r"compiler_arguments\.1"):
        from_tree(JudgeConfig, {"compiler_arguments": ["-O1", 2]}, "file.yaml")
