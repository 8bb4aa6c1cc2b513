"""MiMo's MTP layer: parallel, fed by the main model's hidden state (report section 3.2, figure 2).

Shapes: `s`equence (local), `b`atch, `h`idden.
"""

from collections.abc import Callable
from typing import Any

from megatron.core import parallel_state, tensor_parallel
from megatron.core.tensor_parallel import scatter_to_sequence_parallel_region
from megatron.core.transformer.multi_token_prediction import MultiTokenPredictionLayer
from megatron.core.utils import make_viewless_tensor
from torch import Tensor


class ParallelMTPLayer(MultiTokenPredictionLayer):
    """One MTP layer as MiMo's inference code computes it.

    Differs from megatron-core's layer in three ways: the caller passes the next tokens already shifted, so nothing is
    rolled (or sent between context-parallel ranks) here; the caller passes the main model's hidden state to every
    layer instead of chaining them; and the embedding is zeroed where position == 0 (`zero_first_embedding`).
    """

    zero_first_embedding = True

    def _get_embeddings(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        embedding: Callable[..., Tensor],
        hidden_states: Tensor,
        packed_seq_params: Any = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """input_ids [b,s]: next tokens; position_ids [b,s]: of the current ones; hidden_states [s,b,h]."""
        embedded = embedding(input_ids=input_ids, position_ids=position_ids)
        if self.zero_first_embedding:
            first = (position_ids == 0).transpose(0, 1).unsqueeze(-1)
            if self.sequence_parallel:
                first = scatter_to_sequence_parallel_region(first)
            embedded = embedded.masked_fill(first, 0.0)
        hidden_states = make_viewless_tensor(inp=hidden_states, requires_grad=True, keep_graph=True)
        return input_ids, position_ids, embedded, hidden_states

    def _checkpointed_forward(self, forward_func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Recompute from the differentiable inputs; megatron-core would save the packed bounds as a tensor.

        Where some decoder layers alone are recomputed ("block"), MTP layers are not.
        """
        if self.config.recompute_method == "block":
            return forward_func(*args, **kwargs)
        hidden_states, decoder_input = kwargs.pop("hidden_states"), kwargs.pop("decoder_input")

        def run(hidden_states: Tensor, decoder_input: Tensor) -> Tensor:
            return forward_func(hidden_states, decoder_input, **kwargs)

        if not self.config.fp8:
            return tensor_parallel.checkpoint(run, False, hidden_states, decoder_input)
        from megatron.core.extensions.transformer_engine import te_checkpoint

        tracker, group = tensor_parallel.random.get_cuda_rng_tracker, parallel_state.get_tensor_model_parallel_group()
        return te_checkpoint(run, False, tracker, group, hidden_states, decoder_input)
