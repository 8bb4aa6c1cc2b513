"""vLLM general plugin (entry point `vllm.general_plugins`): MiMo drafts with several parallel MTP layers.

Stock vLLM loads every MTP layer of a MiMo checkpoint and drafts with the first alone, recursively. Models whose
`config.json` says `mtp_recursive_steps` are meant for that, and are left to it. vLLM calls `register` in each of its
processes; VLLM_PLUGINS="" switches it off.
"""

from typing import Any

from megatron_mimo.serve.cpu_sampling import repair
from megatron_mimo.serve.speculative import is_recursive

MIMO_DRAFT_MODEL_TYPE = "mimo_mtp"
"""The model type vLLM gives the draft half of a `MiMoForCausalLM` checkpoint."""


def register() -> None:
    """Teach vLLM the parallel draft model and its proposer, and mend its CPU sampler; may be called again."""
    from vllm import ModelRegistry
    from vllm.v1.spec_decode import eagle

    ModelRegistry.register_model("MiMoMTPModel", "megatron_mimo.serve.mtp_model:ParallelMiMoMTP")
    # The runner names EagleProposer itself and has no registry of proposers. Choosing the class where the object is
    # made works whether or not the runner has been imported already.
    proposer: Any = eagle.EagleProposer
    proposer.__new__ = staticmethod(_new_proposer)
    repair()


def _new_proposer(cls: type, vllm_config: Any, *_args: object, **_settings: object) -> object:
    """`EagleProposer.__new__`: our subclass where the draft is MiMo's parallel layers, else the class asked for."""
    from vllm.v1.spec_decode.eagle import EagleProposer

    config = vllm_config.speculative_config.draft_model_config.hf_config
    is_parallel = config.model_type == MIMO_DRAFT_MODEL_TYPE and not is_recursive(config)
    if cls is EagleProposer and is_parallel:
        from megatron_mimo.serve.mtp_proposer import ParallelMTPProposer

        cls = ParallelMTPProposer
    return object.__new__(cls)
