"""The torch backend with emulated FP8: megatron-core's linear layers, their products replaced.

As under Transformer Engine, FP8 touches the linear layers of decoder and MTP layers (the MTP projection included);
embedding, norms, attention core and output head stay as they are.
"""

from typing import Any

import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)
from megatron.core.transformer.spec_utils import ModuleSpec
from torch import Tensor

from megatron_mimo.config import PrecisionConfig
from megatron_mimo.model.fp8_emulation import Quantisers, fp8_linear
from megatron_mimo.model.torch_layers import TorchSpecProvider


class EmulatedFP8:
    """A parallel linear layer's local product by a recipe. Delayed scaling's state is not checkpointed."""

    quantisers: Quantisers

    def _forward_impl(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        allreduce_dgrad: bool,
        sequence_parallel: bool,
        tp_group: dist.ProcessGroup | None,
        **_: Any,
    ) -> Tensor:
        if sequence_parallel:
            input = gather_from_sequence_parallel_region(input, tensor_parallel_output_grad=True, group=tp_group)
        elif allreduce_dgrad:
            input = copy_to_tensor_model_parallel_region(input, group=tp_group)
        output = fp8_linear(input, weight, self.quantisers)
        return output if bias is None else output + bias


class EmulatedColumnParallelLinear(EmulatedFP8, ColumnParallelLinear):
    """Weight cut along the output."""

    def __init__(self, *args: Any, precision: PrecisionConfig, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.quantisers = layer_quantisers(precision)


class EmulatedRowParallelLinear(EmulatedFP8, RowParallelLinear):
    """Weight cut along the input."""

    def __init__(self, *args: Any, precision: PrecisionConfig, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.quantisers = layer_quantisers(precision)


def layer_quantisers(precision: PrecisionConfig) -> Quantisers:
    """One layer's quantisers; delayed scaling shares its amax over tensor-, context- and data-parallel ranks."""
    group: Any = parallel_state.get_amax_reduction_group(with_context_parallel=True)
    return Quantisers.of(precision.fp8_recipe, precision.fp8_format, group if group.size() > 1 else None)


class EmulatedFP8SpecProvider(TorchSpecProvider):
    """The torch backend's parts with emulated linear layers."""

    def __init__(self, precision: PrecisionConfig) -> None:
        self.precision = precision

    def column_parallel_linear(self) -> Any:
        return ModuleSpec(module=EmulatedColumnParallelLinear, params={"precision": self.precision})

    def row_parallel_linear(self) -> Any:
        return ModuleSpec(module=EmulatedRowParallelLinear, params={"precision": self.precision})
