"""What vLLM's workers learn from this project: to load new weights in place, the MTP draft's included.

vLLM is given `PolicyUpdates` as `worker_extension_cls` and makes it a base class of its worker.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from megatron_mimo.rl.weight_broadcast import MeetingPoint, WeightBroadcast
from megatron_mimo.serve.vllm_plugin import register

# Every worker imports this module before it builds its models; without an installed project nothing else would mend
# the sampler of vLLM's CPU build.
register()

DRAFT_NAMES = ("model.mtp_layers.", "model.embed_tokens.", "lm_head.")
"""What the draft reads: its own layers, and the target's embedding and head, which are loaded a second time with it."""


class PolicyUpdates:
    """Mixed into vLLM's worker. vLLM's own `reload_weights` leaves the draft as it was."""

    vllm_config: Any
    model_runner: Any
    rank: int
    device: torch.device

    def reload_folder(self, folder: str) -> None:
        """Copy the weights of an exported model into target and draft. Raises ValueError for another model's."""
        self._load_target(None, folder)
        self._load_draft(None, folder)

    def receive_weights(self, host: str, port: int, size: int, first_rank: int) -> None:
        """The same with what the trainer broadcasts. first_rank: of this engine's workers among those that meet.

        Raises RuntimeError where the trainer, or another receiver, is lost on the way.
        """
        broadcast = WeightBroadcast(MeetingPoint(host, port, size), first_rank + self.rank, self.device)
        for_draft: list[tuple[str, Tensor]] = []

        def received() -> Iterator[tuple[str, Tensor]]:
            for name, tensor in broadcast.receive():
                if name.startswith(DRAFT_NAMES):
                    # A copy: the tensor itself would keep all that arrived with it.
                    for_draft.append((name, tensor.clone()))
                yield name, tensor

        self._load_target(received(), None)
        self._load_draft(for_draft, None)

    def _load_target(self, weights: Iterable[tuple[str, Tensor]] | None, folder: str | None) -> None:
        from vllm.config import set_current_vllm_config

        with set_current_vllm_config(self.vllm_config):
            self.model_runner.reload_weights(weights_iterator=weights, weights_path=folder)

    def _load_draft(self, weights: Iterable[tuple[str, Tensor]] | None, folder: str | None) -> None:
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload.inplace import reload_weights

        draft = self.model_runner.get_draft_model()
        if draft is None:
            return
        config = copy.copy(self.vllm_config)
        config.model_config = config.speculative_config.draft_model_config
        with set_current_vllm_config(self.vllm_config):
            reload_weights(config, draft, weights, folder, is_checkpoint_format=True)
