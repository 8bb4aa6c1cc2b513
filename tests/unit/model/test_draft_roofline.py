"""The roofline of drafting: against closed forms, against published speed-ups, and where it must not pay."""

import dataclasses

import pytest

from megatron_mimo.plan.draft_roofline import DEVICES, MIMO_7B, DraftDevice, Drafting, Load, Prediction, main, predict
from megatron_mimo.plan.memory import model_parameters

H20 = next(device for device in DEVICES if device.name == "H20")
A10 = next(device for device in DEVICES if device.name == "A10")
SHORT = Load(context=0)


def seconds(prediction: Prediction) -> float:
    parts = (prediction.main_seconds, prediction.layer_seconds, prediction.head_seconds, prediction.other_seconds)
    assert prediction.step_seconds == pytest.approx(sum(parts))
    return prediction.step_seconds


def test_one_request_reads_every_weight_once() -> None:
    """MiMo-7B: 7,833,409,536 parameters, of which the embedding (a row) and the final norm (4,096) are not counted."""
    main_parameters, layer = model_parameters(MIMO_7B)
    embedding = 151_680 * 4096
    drafts = predict(MIMO_7B, A10, Drafting(acceptance=(0.5,)), SHORT)
    assert drafts.plain_seconds == pytest.approx((main_parameters - embedding - 4096) * 2 / 0.6e12)
    assert drafts.main_seconds == pytest.approx(drafts.plain_seconds), "two tokens read the same weights as one"
    assert drafts.layer_seconds == pytest.approx(layer * 2 / 0.6e12)
    assert drafts.head_seconds == pytest.approx(embedding * 2 / 0.6e12)
    assert seconds(drafts) == pytest.approx((main_parameters + layer - 4096) * 2 / 0.6e12)


def test_no_drafts_bring_nothing_and_cost_nothing() -> None:
    nothing = predict(MIMO_7B, H20, Drafting(acceptance=()), Load(batch=7))
    assert nothing.speedup == 1.0 and seconds(nothing) == nothing.plain_seconds


def test_many_requests_are_bound_by_operations() -> None:
    """Then a token costs what it costs, and k drafts that are never right divide the speed by k + 1 and more."""
    load = Load(batch=100_000, context=0)
    wrong = predict(MIMO_7B, H20, Drafting(acceptance=(0.0, 0.0, 0.0), form="parallel"), load)
    layers, heads = 3 * 4 * 2 * 210_790_400, 3 * 2 * 151_680 * 4096
    assert wrong.main_seconds == pytest.approx(4 * wrong.plain_seconds)
    assert wrong.layer_seconds == pytest.approx(layers * 100_000 / 148e12)
    assert wrong.head_seconds == pytest.approx(heads * 100_000 / 148e12)
    recursive = predict(MIMO_7B, H20, Drafting(acceptance=(0.0, 0.0, 0.0)), load)
    assert recursive.layer_seconds == pytest.approx(wrong.layer_seconds / 2), "4 + 1 + 1 rows instead of 3 x 4"


def test_a_draft_vocabulary_costs_its_share_of_the_head() -> None:
    whole, part = (
        predict(MIMO_7B, A10, Drafting(acceptance=(0.8, 0.5), vocabulary=size), SHORT) for size in (None, 32_000)
    )
    assert part.head_seconds / whole.head_seconds == pytest.approx(32_000 / 151_680)
    assert (part.main_seconds, part.layer_seconds) == (whole.main_seconds, whole.layer_seconds)
    assert part.speedup > whole.speedup


def test_the_cache_is_read_by_every_pass() -> None:
    long, short = (predict(MIMO_7B, A10, Drafting(acceptance=(0.8,)), Load(context=c)) for c in (32_768, 0))
    cache = 32_768 * 2 * 8 * 128 * 2 / 0.6e12
    assert long.layer_seconds - short.layer_seconds == pytest.approx(cache)
    assert long.plain_seconds - short.plain_seconds == pytest.approx(36 * cache)


def test_published_speed_ups_of_one_model_follow_from_one_fitted_time() -> None:
    """FastMTP (arXiv 2509.18362) on an A10, batch 1, three recursive drafts; 1.2 ms for each draft pass.

    The paper: vanilla layer accepted 70, 11 and 2 %, 1.21x; fine-tuned on its own answers 81, 56 and 36 %, 1.81x, and
    2.03x with 32,000 tokens, which cost about 0.05 tokens a step.
    """
    device = dataclasses.replace(A10, draft_pass_seconds=1.2e-3)
    published = {
        1.21: Drafting(acceptance=(0.70, 0.11, 0.02)),
        1.81: Drafting(acceptance=(0.81, 0.56, 0.36)),
        2.03: Drafting(acceptance=(0.80, 0.54, 0.34), vocabulary=32_000),
    }
    for speedup, drafting in published.items():
        assert predict(MIMO_7B, device, drafting).speedup == pytest.approx(speedup, rel=0.02)
        assert predict(MIMO_7B, A10, drafting).speedup > speedup, "without it, paper is faster than life"


def test_drafting_ends_to_pay_where_operations_bind() -> None:
    """An H20 has a tenth of an H200's operations for each byte: it stops paying at a smaller batch."""
    drafting = Drafting(acceptance=(0.81, 0.56, 0.36))
    gains = {
        device.name: [predict(MIMO_7B, device, drafting, Load(batch=batch)).speedup for batch in (1, 32, 512)]
        for device in DEVICES
    }
    assert gains["H20"][0] > 1.9 and gains["H20"][1] < 1
    assert gains["H200"][1] > 1.9 and gains["H200"][2] < gains["H200"][1]


def test_small_models_pay_for_each_layer() -> None:
    """A quarter of the depth a draft pass: even drafts that are always right cannot double the speed."""
    nano = dataclasses.replace(
        MIMO_7B, num_layers=4, hidden_size=192, ffn_hidden_size=512, num_attention_heads=6, num_query_groups=2,
        kv_channels=32, vocab_size=2048,
    )  # fmt: skip
    deep = dataclasses.replace(nano, num_layers=12)
    device = DraftDevice(name="slow", bytes_per_second=1e9, flops_per_second=1e15)
    right = Drafting(acceptance=(1.0, 1.0, 1.0))
    shallow_gain, deep_gain = (predict(model, device, right, SHORT).speedup for model in (nano, deep))
    assert shallow_gain < 2 < deep_gain < 4


def test_the_table_has_every_device_form_and_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--acceptance", "0.8", "0.5", "--batches", "1", "64", "--vocabulary", "16000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(DEVICES) * 3 * 2
    assert lines[0].split()[-4:] == ["batch", "1", "batch", "64"] and "recursive, 16,000" in lines[5]
