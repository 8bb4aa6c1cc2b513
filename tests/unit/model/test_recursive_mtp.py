"""Draft steps of one recursive MTP layer: computed at once in training, one draft after another in the reference."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from megatron_mimo.config import ConfigError, ModelConfig
from megatron_mimo.model.drafting import recursive_logits
from megatron_mimo.model.reference import ReferenceMiMo
from support.megatron_weights import checkpoint_name, megatron_named, random_reference, same_model

pytest.importorskip("megatron.core")
STEPS, EOD, DECAY = 3, 7, 0.6
SHAPE: dict[str, Any] = dict(
    num_layers=2, hidden_size=32, ffn_hidden_size=48, num_attention_heads=4, num_query_groups=2, kv_channels=8,
    vocab_size=96, mtp_recursive_steps=STEPS,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def without_cuda() -> None:
    from megatron_mimo.platform import cpu

    cpu.install()


def rows_with_documents() -> torch.Tensor:
    """[2, 25]: documents of 24; of 1, 2, 3 and 18 tokens."""
    rows = torch.randint(8, 96, (2, 25), generator=torch.Generator().manual_seed(1))
    for end in (0, 2, 5):
        rows[1, end] = EOD
    return rows


def documents_of(row: torch.Tensor, whole: bool) -> list[torch.Tensor]:
    """Positions of each document of a row's input tokens."""
    ends = [] if whole else (row[:-1] == EOD).nonzero().flatten().tolist()
    bounds = [0, *(end + 1 for end in ends), len(row) - 1]
    return [torch.arange(a, b) for a, b in itertools.pairwise(bounds) if a < b]


def naive_losses(reference: ReferenceMiMo, rows: torch.Tensor, whole: bool) -> dict[tuple[int, int, int], torch.Tensor]:
    """By (step, row, position): the loss of every draft step of every draft, in a document's own positions.

    The token after a document's last one is read by its last position, as in pre-training.
    """
    found = {}
    for number, row in enumerate(rows):
        for positions in documents_of(row, whole):
            start, end = int(positions[0]), int(positions[-1]) + 1
            by_step = recursive_logits(reference, row[start : end + 1], STEPS)
            for step, logits in enumerate(by_step):
                for position, scores in logits.items():
                    label = start + position + 2
                    if label < len(row):
                        found[step + 1, number, start + position] = F.cross_entropy(scores, row[label])
    return found


@pytest.mark.parametrize("options", [{}, {"mtp_hidden_state": "after_final_norm", "mtp_zero_first_embedding": False}])
@pytest.mark.parametrize("attention", ["mask", "ignore"])
def test_losses_and_gradients_are_those_of_drafting_token_by_token(attention: Any, options: dict[str, Any]) -> None:
    from megatron_mimo.model import build
    from megatron_mimo.training.batch import make_batch
    from megatron_mimo.training.draft_steps import step_weights, with_draft_steps
    from megatron_mimo.training.loss import weighted_loss_sum

    model = ModelConfig(**SHAPE, **options)
    reference, rows = random_reference(model, 10_000), rows_with_documents()
    naive = naive_losses(reference, rows, whole=attention == "ignore")
    weights = step_weights(STEPS, DECAY)
    sum(weights[step - 1] * loss for (step, _, _), loss in naive.items()).backward()  # type: ignore[union-attr]
    gradients = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    with build.single_process_group():
        chunk = same_model(reference, seq_length=24)
        rows_of_loader = {"tokens": rows, "source": torch.zeros(2, dtype=torch.long)}
        batch = with_draft_steps(make_batch(rows_of_loader, model.mtp_num_layers, EOD, attention), STEPS)
        losses = chunk(batch.tokens, batch.position_ids, batch.attention_mask, batch.labels)
        mask = batch.loss_mask.clone()
        assert {tuple(place) for place in mask[1:].nonzero().tolist()} == {(k - 1, r, p) for k, r, p in naive}
        mask[0] = 0
        weighted_loss_sum(losses, mask, 1.0, weights).backward()
    for (step, row, position), loss in naive.items():
        torch.testing.assert_close(losses[step, row, position], loss, atol=1e-4, rtol=1e-5)
    assert len({round(float(loss), 3) for loss in naive.values()}) > 100
    complete = {name: gradients.get(name, torch.zeros_like(p)) for name, p in reference.named_parameters()}
    expected = megatron_named(model, complete.__getitem__)
    for name, parameter in chunk.named_parameters():
        actual = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(actual, expected[checkpoint_name(name)], atol=2e-4, rtol=1e-3, msg=name)


def test_one_step_is_the_parallel_layer() -> None:
    """The first draft reads the main model's state in both forms."""
    from megatron_mimo.model import build
    from megatron_mimo.training.batch import make_batch
    from megatron_mimo.training.draft_steps import with_draft_steps

    losses = {}
    for steps in (1, STEPS):
        reference = random_reference(ModelConfig(**SHAPE | {"mtp_recursive_steps": steps}), 10_000)
        with build.single_process_group():
            chunk = same_model(reference, seq_length=24)
            rows = {"tokens": rows_with_documents(), "source": torch.zeros(2, dtype=torch.long)}
            batch = with_draft_steps(make_batch(rows, 1, EOD, "mask"), steps)
            losses[steps] = chunk(batch.tokens, batch.position_ids, batch.attention_mask, batch.labels).detach()
    torch.testing.assert_close(losses[1][0], losses[STEPS][0])
    torch.testing.assert_close(losses[1][1][:, :-1], losses[STEPS][1][:, :-1])


def test_a_step_sees_the_prefix_and_its_own_draft() -> None:
    from megatron_mimo.model.recursive_mtp import step_mask

    length, document = 9, 4
    ids = torch.arange(length) // document
    visible = (torch.ones(length, length, dtype=torch.bool).tril() & (ids[:, None] == ids[None, :]))[None, None]
    for step in range(1, 5):
        mask = step_mask(visible, step)[0, 0]
        for position in range(length):
            begin = position - step + 1
            seen = {(1, place) for place in range(length) if place <= begin and ids[place] == ids[position]}
            seen |= {(k, begin + k - 1) for k in range(2, step + 1) if begin + k - 1 >= 0}
            places = mask[position].nonzero().flatten().tolist()
            assert {(place // length + 1, place % length) for place in places} == seen


def test_weights_of_fast_mtp() -> None:
    from megatron_mimo.training.draft_steps import step_weights

    assert [round(weight, 2) for weight in step_weights(3, 0.6)] == [0.51, 0.31, 0.18]
    assert step_weights(4, 1.0) == [0.25] * 4


@pytest.mark.parametrize(
    ("changes", "words"), [({"mtp_num_layers": 2}, "mtp_num_layers=1"), ({"mtp_recursive_steps": 0}, "1")]
)
def test_one_layer_drafts_recursively(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ModelConfig(**SHAPE | changes)
