"""The redirection of CUDA devices on a machine without CUDA is not asked about the calls of a training step."""

from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_mimo.platform.cpu import CpuPlacement
from support.bare_run import Run, make_config

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is no redirection")


def test_a_step_runs_without_it(group: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = Run(make_config(tmp_path)), []
    redirect = CpuPlacement.__torch_function__

    def noted(self: CpuPlacement, func: Any, *rest: Any) -> Any:
        seen.append(func)
        return redirect(self, func, *rest)

    monkeypatch.setattr(CpuPlacement, "__torch_function__", noted)
    assert len(run.train(range(1))) == 1
    of_the_model = {torch.nn.functional.embedding, torch.matmul, torch.Tensor.matmul, torch.Tensor.backward}
    assert seen and not of_the_model & set(seen), "it sees the optimizer alone"
    torch.matmul(torch.ones(2, 2), torch.ones(2, device="cuda"))
    assert torch.matmul in seen, "and everything afterwards"
