"""MiMo's MTP layers as vLLM's draft model: parallel ones (report, section 3.1 and Figure 2), or one recursive layer."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor
from vllm.model_executor.models.mimo_mtp import MiMoMTP

from megatron_mimo.serve import draft_vocabulary
from megatron_mimo.serve.draft_head import DraftHead
from megatron_mimo.serve.speculative import is_recursive


class ParallelMiMoMTP(MiMoMTP):
    """vLLM's MiMoMTP with all of its layers: draft step i runs layer i, which has a key/value cache of its own.

    A folder whose `config.json` has `mtp_recursive_steps` above 1 drafts as vLLM does by itself: with one layer, which
    reads its own output from the second draft on. One with a draft vocabulary has logits of its tokens alone.
    """

    draft_head: DraftHead | None

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.is_recursive = is_recursive(self.config)
        vocab_size: int = self.config.vocab_size
        ids = draft_vocabulary.read(Path(vllm_config.model_config.model), vocab_size)
        self.draft_head = None if ids is None else DraftHead(ids, vocab_size, self.config.hidden_size)

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

    def compute_logits(self, hidden_states: Tensor, spec_step_idx: int = 0) -> Tensor | None:
        """[tokens, h] -> [tokens, v]; minus infinity for tokens that are not drafted."""
        if self.draft_head is not None:
            return self.draft_head(hidden_states)
        return super().compute_logits(hidden_states, spec_step_idx)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """As vLLM's; the draft head takes its rows of the output head as they pass."""
        return super().load_weights(weights if self.draft_head is None else self._with_rows_kept(weights))

    def _with_rows_kept(self, weights: Iterable[tuple[str, Tensor]]) -> Iterable[tuple[str, Tensor]]:
        for name, tensor in weights:
            if name == "lm_head.weight":
                assert self.draft_head is not None
                self.draft_head.take_rows(tensor)
            yield name, tensor
