"""Train MTP layers for speculative decoding, everything else frozen.

    megatron-mimo draft examples/nano/finetune_mtp.yaml --nproc 2
    megatron-mimo draft examples/mimo_7b/finetune_mtp.yaml start.checkpoint=RUN/checkpoints --nproc 8

CONFIG.yaml is a pre-training configuration whose `start.train` is not `all`. Options, resuming and exit codes are those
of megatron-mimo pretrain. Afterwards: megatron-mimo export, then serve, which drafts with every MTP layer.
"""

from megatron_mimo import pretrain
from megatron_mimo.config import ConfigError, PretrainConfig


def main(arguments: list[str] | None = None) -> int:
    """Train as pre-training does, once it is sure that the model is frozen; returns the exit code."""
    usage = pretrain.USAGE.replace("megatron-mimo pretrain", "megatron-mimo draft")
    return pretrain.main(arguments, f"{__doc__}\n{usage}", freezes_the_model)


def freezes_the_model(config: PretrainConfig) -> None:
    """Raise ConfigError for a configuration that trains the whole model."""
    found = None if config.start is None else config.start.train
    if found in (None, "all"):
        raise ConfigError(
            "start.train", found, "draft freezes the model: new_mtp_layers, mtp_layers; pretrain trains all"
        )
