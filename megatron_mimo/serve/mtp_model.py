"""MiMo's MTP layers as vLLM's draft model: parallel ones (report, section 3.1 and Figure 2), or one recursive layer."""

from typing import Any

from torch import Tensor
from vllm.model_executor.models.mimo_mtp import MiMoMTP

from megatron_mimo.serve.speculative import is_recursive


class ParallelMiMoMTP(MiMoMTP):
    """vLLM's MiMoMTP with all of its layers: draft step i runs layer i, which has a key/value cache of its own.

    A folder whose `config.json` has `mtp_recursive_steps` above 1 drafts as vLLM does by itself: with one layer, which
    reads its own output from the second draft on.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.is_recursive = is_recursive(self.config)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        hidden_states: Tensor,
        intermediate_tensors: object = None,
        inputs_embeds: Tensor | None = None,
        spec_step_idx: int = 0,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The state that predicts the draft, and what the next step is given, both [tokens, h].

        The latter is the main model's hidden state again: the layers are parallel, not chained. A recursive layer's
        state is both, and is returned once.
        """
        if self.is_recursive:
            return self.model(input_ids, positions, hidden_states, inputs_embeds)
        return self.model(input_ids, positions, hidden_states, inputs_embeds, spec_step_idx), hidden_states
