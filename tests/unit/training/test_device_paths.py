"""The quick checks of `gpu-check` on a CPU: they run, and what must be equal there is."""

import pytest
import torch

pytest.importorskip("megatron.core")

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what a CPU finds")
QUICK = ["packed", "cut", "micro_batches", "recomputation", "policy_head"]


@without_gpu
@pytest.mark.parametrize("name", QUICK)
def test_a_quick_check_passes(name: str) -> None:
    from megatron_mimo.cli.gpu_checks import CHECKS

    found = CHECKS[name].run(False)
    assert found.passed, found.summary
