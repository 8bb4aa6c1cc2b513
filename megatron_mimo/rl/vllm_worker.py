"""What vLLM's workers learn from this project: one call that loads the weights of a folder, the MTP draft's included.

vLLM is given `FolderReload` as `worker_extension_cls` and makes it a base class of its worker.
"""

import copy
from typing import Any

from megatron_mimo.serve.vllm_plugin import register

# Every worker imports this module before it builds its models; without an installed project nothing else would mend
# the sampler of vLLM's CPU build.
register()


class FolderReload:
    """Mixed into vLLM's worker."""

    vllm_config: Any
    model_runner: Any

    def reload_folder(self, folder: str) -> None:
        """Copy the weights of an exported model into target and draft, in place.

        vLLM's own `reload_weights` leaves the draft as it was. The draft reads the target's embedding and head, which
        are loaded a second time with it. Raises ValueError where `folder` holds another model.
        """
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload.inplace import reload_weights

        runner, config = self.model_runner, self.vllm_config
        with set_current_vllm_config(config):
            runner.reload_weights(weights_path=folder)
            draft = runner.get_draft_model()
            if draft is None:
                return
            draft_config = copy.copy(config)
            draft_config.model_config = config.speculative_config.draft_model_config
            reload_weights(draft_config, draft, None, folder, is_checkpoint_format=True)
