"""The MiMo model on megatron-core: GPTModel's parts, its own final norm, parallel MTP layers.

Shapes: `s`equence (local to the context-parallel rank), `b`atch, `h`idden, `v`ocabulary (local to the tensor-parallel
rank), `D` MTP layers, or draft steps of the one recursive layer.
"""

from collections.abc import Callable
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)
from megatron.core.transformer.spec_utils import build_module
from torch import Tensor

from megatron_mimo.model.chunked_cross_entropy import chunked_cross_entropy
from megatron_mimo.model.engine_loss import fused_cross_entropy
from megatron_mimo.model.mtp import ParallelMTPLayer
from megatron_mimo.model.packed_documents import PackedDocuments
from megatron_mimo.model.recursive_mtp import recursive_states
from megatron_mimo.model.torch_functions import CrossEntropyFunction


class Head(ColumnParallelLinear):
    """megatron-core's output layer, which also lends its weight to a loss that makes no logits.

    Such a loss must be a call of this module as well: data-parallel wrappers that gather new parameters during the
    forward pass do so in the hooks of the module that holds them.
    """

    def forward(  # type: ignore[override]
        self, input_: Tensor, *args: Any, loss: Callable[[Tensor, Tensor], Tensor] | None = None, **named: Any
    ) -> Any:
        """As ColumnParallelLinear, or `loss(input_, weight)`."""
        if loss is None:
            return super().forward(input_, *args, **named)
        assert self.weight is not None
        return loss(input_, self.weight)


class MTPGPTModel(GPTModel):
    """GPTModel whose last pipeline stage returns main and MTP results side by side.

    The decoder is built without its final norm; the norm lives here, because MiMo's MTP layers take the hidden state
    before it (`mtp_before_final_norm`).
    """

    def __init__(
        self,
        *args: Any,
        mtp_before_final_norm: bool,
        mtp_zero_first_embedding: bool,
        mtp_recursive_steps: int = 1,
        final_norm: Any,
        cross_entropy_chunk_vocab: int | None = None,
        **kw: Any,
    ):
        """`cross_entropy_chunk_vocab`: entries a slab of chunked heads; None keeps a head's logits whole."""
        super().__init__(*args, **kw)
        self.mtp_before_final_norm = mtp_before_final_norm
        self.mtp_recursive_steps = mtp_recursive_steps
        self.cross_entropy_chunk_vocab = cross_entropy_chunk_vocab
        if self.post_process:
            self.output_layer.__class__ = Head
            self.final_layernorm = build_module(
                final_norm, config=self.config, hidden_size=self.config.hidden_size, eps=self.config.layernorm_epsilon
            )
        if self.mtp_process:
            for layer in self.mtp.layers:
                assert isinstance(layer, ParallelMTPLayer)
                layer.zero_first_embedding = mtp_zero_first_embedding

    def forward(  # type: ignore[override]
        self,
        tokens: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor,
        packed_seq_params: PackedDocuments | None = None,
        return_logits: bool = False,
        main_head: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Per-token losses in nats, fp32 [1+D, b, s], on the last pipeline stage; hidden states [s, b, h] elsewhere.

        tokens, position_ids: [b, s]. labels: [1+D, b, s], labels[d] = the token d+1 places ahead; MTP layer d is fed
        the embedding of labels[d-1]. Draft steps of a recursive layer: labels as `training.draft_steps` makes them, and
        no packed row. attention_mask: bool [b, 1, s, S] or None;
        packed_seq_params: the documents of a packed row (b = 1), or None. With `return_logits` the last stage
        returns logits [1+D, b, s, v] instead. With `main_head` it returns what main_head(normed states [s, b, h],
        labels[0]) does, [n, b, s]; labels of D further depths ask for D rows below: the losses of the MTP layers, whose
        gradient reaches nothing but these layers.
        """
        if packed_seq_params is None:
            decoder_input, rotary_pos_emb, *_ = self._preprocess(tokens, position_ids)
        else:
            decoder_input = self.embedding(input_ids=tokens, position_ids=position_ids) if self.pre_process else None
            rotary_pos_emb = self._angles(position_ids)
        context = {"rotary_pos_emb": rotary_pos_emb, "packed_seq_params": packed_seq_params}
        hidden = self.decoder(hidden_states=decoder_input, attention_mask=attention_mask, **context)
        if not self.post_process:
            return hidden
        normed = self.final_layernorm(hidden)
        source = hidden if self.mtp_before_final_norm else normed
        context |= {"position_ids": position_ids, "attention_mask": attention_mask}
        if main_head is not None:
            main = main_head(normed, labels[0])
            return main if len(labels) == 1 else torch.cat([main, self._detached_mtp_losses(source, labels, context)])
        outputs = [normed]
        if self.mtp_process:
            outputs += self._mtp_states(source, labels, self.embedding, context)
        head = self._logits if return_logits else self._losses
        return torch.stack([head(states, labels[depth]) for depth, states in enumerate(outputs)])

    def _mtp_states(
        self, source: Tensor, labels: Tensor, embedding: Callable[..., Tensor], context: dict[str, Any]
    ) -> list[Tensor]:
        """What the D layers make of the main model's states `source`: D times [s, b, h], ready for the head."""
        if self.mtp_recursive_steps > 1:
            return recursive_states(
                self.mtp.layers[0], source, labels[0], embedding, context, num_steps=self.mtp_recursive_steps
            )
        return [
            layer(input_ids=labels[depth], hidden_states=source, embedding=embedding, **context)[0]
            for depth, layer in enumerate(self.mtp.layers)
        ]

    def _detached_mtp_losses(self, source: Tensor, labels: Tensor, context: dict[str, Any]) -> Tensor:
        """[D, b, s], with the main model, the embedding and the head held fixed."""
        # A leaf that wants a gradient: without one, recomputation would leave the layers out of the backward pass.
        source = source.detach().requires_grad_()
        states = self._mtp_states(source, labels, self._fixed_embedding, context)
        return torch.stack([self._losses(one, labels[depth], fixed_head=True) for depth, one in enumerate(states, 1)])

    @torch.no_grad()
    def _fixed_embedding(self, **inputs: Tensor) -> Tensor:
        return self.embedding(**inputs)

    def _angles(self, position_ids: Tensor) -> Tensor:
        """Rotary angles [s,1,1,d] of a packed row's places [1,s], which are not those of a row that starts at 0."""
        inverse_frequencies: Tensor = self.rotary_pos_emb.inv_freq
        angles = torch.outer(position_ids.flatten().to(inverse_frequencies.dtype), inverse_frequencies)
        return torch.cat([angles, angles], dim=-1)[:, None, None, :]

    def _losses(self, states: Tensor, labels: Tensor, fixed_head: bool = False) -> Tensor:
        """states [s,b,h], labels [b,s] -> cross entropy in nats [b,s]. A `fixed_head` gets no gradient."""
        if self.cross_entropy_chunk_vocab is not None:
            return self._chunked_losses(states, labels, self.cross_entropy_chunk_vocab, fixed_head)
        weight: Any = self.output_layer.weight
        logits, _ = self.output_layer(states, weight=weight.detach() if fixed_head else weight)
        whole = self.config.tensor_model_parallel_size == 1
        if self.config.cross_entropy_loss_fusion:
            return fused_cross_entropy(logits, labels, None if whole else self.pg_collection.tp)
        if whole and logits.device.type == "cpu":
            # The whole vocabulary is here: no need of the dozen operators that one cut over ranks takes.
            losses: Any = CrossEntropyFunction.apply(logits.flatten(0, 1), labels.t().flatten())
            return losses.view(logits.shape[:2]).t()
        return self.compute_language_model_loss(labels, logits)

    def _chunked_losses(self, states: Tensor, labels: Tensor, chunk_vocab: int, fixed_head: bool) -> Tensor:
        """The same, without logits: the output layer's regions around the fused head."""
        layer: Any = self.output_layer
        group: Any = layer.tp_group
        if layer.sequence_parallel:
            states = gather_from_sequence_parallel_region(states, tensor_parallel_output_grad=True, group=group)
        else:
            states = copy_to_tensor_model_parallel_region(states, group=group)
        rows, s_b = states.flatten(0, 1), states.shape[:2]
        group = group if self.config.tensor_model_parallel_size > 1 else None
        flat_labels = labels.t().flatten()

        def loss(states: Tensor, weight: Tensor) -> Tensor:
            weight = weight.detach() if fixed_head else weight
            return chunked_cross_entropy(states, weight, flat_labels, chunk_vocab, group)

        return layer(rows, loss=loss).view(s_b).t()

    def _logits(self, states: Tensor, labels: Tensor) -> Tensor:
        """states [s,b,h] -> logits [b,s,v]."""
        logits, _ = self.output_layer(states)
        return logits.transpose(0, 1).contiguous()
