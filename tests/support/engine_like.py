"""Stand-ins with the behaviour of Transformer Engine's parts, for tests without a GPU.

What they do is read in Transformer Engine's sources: the norm's state in pytorch/ops/op.py, the optimizer in
pytorch/optimizers/fused_adam.py, the refusal of pickles in pytorch/_extra_state.py (2.20).
"""

import os
import pickle
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.model.torch_layers import RMSNorm

NORMS_OF_THEIR_OWN = ("enorm", "hnorm", "final_layernorm")
"""The others are part of Transformer Engine's linear layers."""


class EngineNorm(RMSNorm):
    """Transformer Engine's norms have an empty state, as all its operations do."""

    def get_extra_state(self) -> Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: Tensor | None) -> None:
        assert state is None or state.numel() == 0


class TEDelayedScaling:
    """megatron-core's class of the recipe, which the states of its layers hold beside the scales."""


TEDelayedScaling.__module__ = "megatron.core.extensions.transformer_engine"


def use_delayed_scaling(monkeypatch: Any) -> None:
    """megatron-core as it is where Transformer Engine is installed, with the class above: pickles name its place."""
    import megatron.core.extensions.transformer_engine as extension

    monkeypatch.setattr(extension, "TEDelayedScaling", TEDelayedScaling)


class DelayedScalingNorm(RMSNorm):
    """A module with the scales of delayed scaling, which only an environment variable lets it read.

    It is Transformer Engine's linear layers that have them, and its norms never do; here a norm stands for them.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.scale = torch.ones(3)

    def get_extra_state(self) -> Tensor:
        state = {"recipe": TEDelayedScaling(), "scale_fwd": self.scale, "extra_fp8_variables": {"num_gemms": 1}}
        return torch.frombuffer(bytearray(pickle.dumps(state)), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor | None) -> None:
        if state is None or state.numel() == 0:
            return
        if os.environ.get("NVTE_ALLOW_UNSAFE_PICKLE_EXTRA_STATE") != "1":
            raise RuntimeError("Refusing to load pickled Transformer Engine extra state")
        self.scale = pickle.loads(state.numpy().tobytes())["scale_fwd"]


class FusedAdam(torch.optim.Optimizer):
    """AdamW that counts steps by group, in whole numbers, and has a setting that torch's class does not know."""

    def __init__(
        self,
        params: Any,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
        eps: float,
        adam_w_mode: bool = True,
    ) -> None:
        settings = {"lr": lr, "bias_correction": True, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["step"] = group["step"] + 1 if "step" in group else 1
            assert isinstance(group["step"], int)
            beta1, beta2 = group["betas"]
            power = group["step"] if group["bias_correction"] else 10**9
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                for name in ("exp_avg", "exp_avg_sq"):
                    state.setdefault(name, torch.zeros_like(parameter))
                state["exp_avg"].lerp_(parameter.grad, 1 - beta1)
                state["exp_avg_sq"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                denominator = (state["exp_avg_sq"] / (1 - beta2**power)).sqrt() + group["eps"]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.addcdiv_(state["exp_avg"], denominator, value=-group["lr"] / (1 - beta1**power))


def use_fused_adam(monkeypatch: Any) -> None:
    """megatron-core as it is where Transformer Engine is installed, with the class above."""
    import megatron.core.optimizer as optimizers
    from megatron.core.optimizer import distrib_optimizer

    monkeypatch.setattr(optimizers, "Adam", FusedAdam)
    monkeypatch.setattr(optimizers, "USING_PYTORCH_OPTIMIZER", False)
    monkeypatch.setattr(distrib_optimizer, "Adam", FusedAdam)
    monkeypatch.setattr(distrib_optimizer, "HAVE_APEX_OR_TE", True)
    monkeypatch.setattr(distrib_optimizer, "USING_TE_OPTIMIZER", True)


def use_norms(chunks: list[Any], norm: type[RMSNorm]) -> list[Any]:
    """The modules that became `norm` in place, with their weights."""
    found = []
    for chunk in chunks:
        for name, module in chunk.named_modules():
            if name.rsplit(".", 1)[-1] in NORMS_OF_THEIR_OWN:
                module.__class__ = norm
                module.scale = torch.ones(3)
                found.append(module)
    return found


class EngineCore(torch.nn.Module):
    """megatron-core's wrapper of Transformer Engine's attention, for packed rows: the segments of one rank.

    Causal masks of queries and keys of different lengths are aligned as pytorch/attention/dot_product_attention does:
    at the first query and key, or at the last ones with `bottom_right`.
    """

    def __init__(self, config: Any, pg_collection: Any, **_: Any) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: Any,
        attention_bias: Tensor | None = None,
        packed_seq_params: Any = None,
    ) -> Tensor:
        """query [q,n,d], key and value [k,g,d] -> context [q,n*d]."""
        packed = packed_seq_params
        assert attention_mask is None and attention_bias is None and packed.qkv_format == "thd"
        assert packed.cp_group is None and (self.config.context_parallel_size == 1 or packed.local_cp_size == 1), "ring"
        alignment = {"causal": 0, "padding_causal_bottom_right": 1}[attn_mask_type.name]
        bounds = [packed.cu_seqlens_q, packed.cu_seqlens_kv]
        assert all(each.dtype == torch.int32 and int(each[0]) == 0 for each in bounds)
        assert [int(each[-1]) for each in bounds] == [len(query), len(key)] and len(key) == len(value)
        assert [int(each.diff().max()) for each in bounds] == [packed.max_seqlen_q, packed.max_seqlen_kv]
        lengths = [each.diff().tolist() for each in bounds]
        parts = zip(query.split(lengths[0]), key.split(lengths[1]), value.split(lengths[1]), strict=True)
        return torch.cat([self._attend(*part, alignment) for part in parts])

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, alignment: int) -> Tensor:
        shared = query.shape[1] // key.shape[1]
        key, value = (tensor.repeat_interleave(shared, dim=1) for tensor in (key, value))
        scores = torch.einsum("qnd,knd->nqk", query, key) / query.shape[-1] ** 0.5
        hidden = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1 + alignment * (len(key) - len(query)))
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        return torch.einsum("nqk,knd->qnd", weights, value).flatten(1)
