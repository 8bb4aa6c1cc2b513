"""vLLM's draft loop for parallel MTP layers: draft i comes from layer i at the last accepted position.

At position i layer d reads the main model's hidden state of i and token i+d, and predicts token i+d+1 (`ReferenceMiMo`
says the same in plain PyTorch). All k layers therefore run over the same rows; from one layer to the next the tokens
move by one place, and the newest draft takes the last.

Shapes: `b` requests, `n` rows (tokens of all requests in a row), `k` drafts, `h`idden.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.forward_context import set_forward_context
from vllm.v1.spec_decode.eagle import EagleProposer

from megatron_mimo.serve.mtp_replay import Tail, replay_rejected, take_tail


class ParallelMTPProposer(EagleProposer):
    """Proposes k tokens with the first k MTP layers."""

    def __init__(self, vllm_config: Any, device: torch.device, runner: Any = None) -> None:
        super().__init__(vllm_config, device, runner)
        _check_settings(self.speculative_config)
        self._runner = runner
        self._num_layers_used: int = self.speculative_config.num_speculative_tokens
        self._tail: Tail | None = None

    def propose(
        self,
        num_speculative_tokens: int,
        target_token_ids: Tensor,
        target_positions: Tensor,
        target_hidden_states: Tensor,
        next_token_ids: Tensor,
        token_indices_to_sample: Tensor | None,
        common_attn_metadata: Any,
        sampling_metadata: Any,
        mm_embed_inputs: object = None,
        num_rejected_tokens_gpu: Tensor | None = None,
        slot_mappings: object = None,
    ) -> Tensor:
        """Draft tokens [b, num_speculative_tokens] that follow `next_token_ids` [b].

        Rows: `target_token_ids` [n], `target_positions` [n] and `target_hidden_states` [n, h] of the main model's step;
        `num_rejected_tokens_gpu` [b] of them at each request's end were rejected. Every layer runs even where
        fewer drafts are asked for: the others' caches must not fall behind.
        """
        known = self._known_tokens(len(next_token_ids))
        num_rows, last, metadata = self.set_inputs_first_pass(
            target_token_ids=target_token_ids,
            next_token_ids=_prefer(known[:, 0], next_token_ids),
            target_positions=target_positions,
            target_hidden_states=target_hidden_states,
            token_indices_to_sample=token_indices_to_sample,
            cad=common_attn_metadata,
            num_rejected_tokens_gpu=num_rejected_tokens_gpu,
        )
        if self._num_layers_used > 1:
            last, metadata = self._mend_later_layers(num_rows, last.long(), metadata, num_rejected_tokens_gpu)
        drafts, probabilities = [], []
        for step, state in enumerate(self._run_layers(num_rows, metadata)):
            draft, probability = self._sample_draft_tokens(state[last], sampling_metadata)
            drafts.append(draft)
            probabilities.append(probability)
            if step + 1 < self._num_layers_used:
                self.input_ids[: num_rows - 1] = self.input_ids[1:num_rows].clone()
                self.input_ids[last] = _prefer(known[:, step + 1], draft.int())
        self._last_draft_probs = None if probabilities[0] is None else torch.stack(probabilities, dim=1).contiguous()
        return torch.stack(drafts, dim=1)[:, :num_speculative_tokens]

    def _run_layers(self, num_rows: int, metadata: Any) -> Iterator[Tensor]:
        """The output [n, h] of layer 1, 2, ... on the input buffers, whose token ids change in between."""
        _, layer_metadata = self.build_per_group_and_layer_attn_metadata(metadata)
        mode, num_input_rows, across_data_parallel = self._determine_batch_execution_and_padding(num_rows)
        inputs, slot_mapping_size = self.build_model_inputs_first_pass(num_rows, num_input_rows, None)
        for step in range(self._num_layers_used):
            with set_forward_context(
                layer_metadata,
                self.vllm_config,
                num_tokens=num_input_rows,
                num_tokens_across_dp=across_data_parallel,
                cudagraph_runtime_mode=mode,
                slot_mapping=self._get_slot_mapping(slot_mapping_size, metadata.slot_mapping),
            ):
                state, _ = self.model(**inputs, spec_step_idx=step)
            yield state

    def _known_tokens(self, num_requests: int) -> Tensor:
        """[b, k]: the tokens after this step's rows where a prompt continues, -1 where they must be drafted."""
        batch = self._runner.input_batch
        columns = self._runner.optimistic_seq_lens_cpu[:num_requests, None].numpy() + np.arange(self._num_layers_used)
        columns = np.minimum(columns, batch.token_ids_cpu.shape[1] - 1)
        tokens = batch.token_ids_cpu[np.arange(num_requests)[:, None], columns]
        is_known = columns < batch.num_tokens_no_spec[:num_requests, None]
        return torch.from_numpy(np.where(is_known, tokens, -1).astype(np.int32)).to(self.device)

    def _mend_later_layers(
        self, num_rows: int, last: Tensor, metadata: Any, num_rejected: Tensor | None
    ) -> tuple[Tensor, Any]:
        """Replay what the previous step's rejected drafts spoiled (`mtp_replay`), and remember this step's tail.

        Returns the row [b] of each request's last accepted token and the metadata of the rows as they now are.
        """
        request_ids = self._runner.input_batch.req_ids[: len(last)]
        if self._tail is not None and num_rejected is not None:
            replay = replay_rejected(
                self._tail.of(request_ids),
                num_rejected,
                metadata.query_start_loc,
                self.input_ids[:num_rows],
                self.hidden_states[:num_rows],
                self.positions[:num_rows],
            )
            self.input_ids[:num_rows] = replay.input_ids
            self.hidden_states[:num_rows] = replay.hidden
            self.positions[:num_rows] = replay.positions
            block = metadata.block_table_tensor[replay.requests, replay.positions // self.block_size].long()
            metadata = metadata.replace(
                seq_lens=metadata.seq_lens - replay.num_replayed.to(metadata.seq_lens.dtype),
                slot_mapping=block * self.block_size + replay.positions % self.block_size,
            )
            last = last + replay.num_replayed
        first = metadata.query_start_loc[:-1]
        self._tail = take_tail(request_ids, self.input_ids, self.hidden_states, first, last, self._num_layers_used - 1)
        return last, metadata


def _prefer(known: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where(known >= 0, known, otherwise.to(known.dtype))


def _check_settings(speculative_config: Any) -> None:
    """Raise ValueError for settings under which the drafts would silently not be the model's."""
    model = speculative_config.draft_model_config.hf_config
    num_drafts, num_layers = speculative_config.num_speculative_tokens, model.num_nextn_predict_layers
    if num_drafts > num_layers:
        raise ValueError(
            f"num_speculative_tokens = {num_drafts}, but the model has {num_layers} MTP layer(s), one for each draft "
            f"token: ask for at most {num_layers}, or set VLLM_PLUGINS='' for vLLM's own way, which uses layer 1 alone"
        )
    if getattr(model, "mtp_hidden_state", "before_final_norm") != "before_final_norm":
        raise ValueError(
            f"config.json: mtp_hidden_state = {model.mtp_hidden_state!r}, but vLLM hands the MTP layers the hidden "
            "state before the final norm: serve this model without speculation"
        )
    if speculative_config.disable_padded_drafter_batch:
        raise ValueError("disable_padded_drafter_batch is not supported for MiMo's MTP layers: leave it out")
