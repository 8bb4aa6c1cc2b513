"""What this project's draft model adds to vLLM's, on objects that have no weights."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from support.needs import needs

needs("vllm")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def classes() -> Any:
    from vllm.v1.spec_decode.eagle import EagleProposer

    from megatron_mimo.serve.mtp_model import ParallelMiMoMTP
    from megatron_mimo.serve.mtp_proposer import ParallelMTPProposer

    return SimpleNamespace(model=ParallelMiMoMTP, parallel=ParallelMTPProposer, stock=EagleProposer)


def config(**settings: Any) -> Any:
    draft = SimpleNamespace(hf_config=SimpleNamespace(**{"model_type": "mimo_mtp"} | settings))
    return SimpleNamespace(speculative_config=SimpleNamespace(draft_model_config=draft))


def test_recursive_layers_are_left_to_vllms_own_loop(classes: Any) -> None:
    from megatron_mimo.serve.vllm_plugin import _new_proposer

    def chosen(**settings: Any) -> type:
        return type(_new_proposer(classes.stock, config(**settings)))

    assert chosen() is chosen(mtp_recursive_steps=1) is classes.parallel
    assert chosen(mtp_recursive_steps=3) is classes.stock
    assert chosen(model_type="deepseek_mtp") is classes.stock


def bare(classes: Any, is_recursive: bool, draft_head: Any = None) -> Any:
    draft = classes.model.__new__(classes.model)
    torch.nn.Module.__init__(draft)
    draft.is_recursive, draft.draft_head = is_recursive, draft_head
    calls: list[tuple[Any, ...]] = []

    class Layers(torch.nn.Module):
        def forward(self, *arguments: Any) -> torch.Tensor:
            calls.append(arguments)
            return arguments[2] + 1

    draft.model, draft.calls = Layers(), calls
    return draft


def test_a_recursive_layer_hands_its_own_state_on_and_parallel_ones_the_main_models(classes: Any) -> None:
    ids, positions, states = torch.tensor([4]), torch.tensor([9]), torch.zeros(1, 8)
    recursive, parallel = bare(classes, True), bare(classes, False)
    torch.testing.assert_close(recursive(ids, positions, states), torch.ones(1, 8))
    drafted, handed_on = parallel(ids, positions, states, spec_step_idx=2)
    torch.testing.assert_close(drafted, torch.ones(1, 8))
    assert handed_on is states and parallel.calls[0][-1] == 2


def test_the_draft_head_takes_its_rows_from_the_weights_that_pass(
    classes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.models.mimo_mtp import MiMoMTP

    from megatron_mimo.serve.draft_head import DraftHead

    passed = []
    monkeypatch.setattr(MiMoMTP, "load_weights", lambda self, weights: passed.extend(weights) or {"loaded"})
    head, states = torch.randn(20, 8), torch.randn(3, 8)
    draft = bare(classes, False, DraftHead([2, 11], 20, 8))
    weights = [("model.embed_tokens.weight", torch.zeros(20, 8)), ("lm_head.weight", head)]
    assert draft.load_weights(iter(weights)) == {"loaded"}
    assert [name for name, _ in passed] == [name for name, _ in weights]
    logits = draft.compute_logits(states)
    torch.testing.assert_close(logits[:, [2, 11]], states @ head[[2, 11]].T)
    assert bool((logits.argmax(-1).unsqueeze(-1) == torch.tensor([2, 11])).any(-1).all())
