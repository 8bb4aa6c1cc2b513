"""MiMo's MTP layers as vLLM's draft model, in parallel form (report, section 3.1 and Figure 2)."""

from torch import Tensor
from vllm.model_executor.models.mimo_mtp import MiMoMTP


class ParallelMiMoMTP(MiMoMTP):
    """vLLM's MiMoMTP with all of its layers: draft step i runs layer i, which has a key/value cache of its own."""

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        hidden_states: Tensor,
        intermediate_tensors: object = None,
        inputs_embeds: Tensor | None = None,
        spec_step_idx: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The state that predicts the draft, and what the next step is given, both [tokens, h].

        The latter is the main model's hidden state again: the layers are parallel, not chained.
        """
        return self.model(input_ids, positions, hidden_states, inputs_embeds, spec_step_idx), hidden_states
