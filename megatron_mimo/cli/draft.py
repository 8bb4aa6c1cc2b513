"""Train MTP layers for speculative decoding, everything else frozen.

    megatron-mimo draft examples/nano/finetune_mtp.yaml --nproc 2
    megatron-mimo draft examples/mimo_7b/finetune_mtp.yaml start.checkpoint=RUN/checkpoints --nproc 8

CONFIG.yaml is a pre-training configuration whose `start.train` is not `all`. Options, resuming and exit codes are those
of megatron-mimo pretrain. Afterwards: megatron-mimo export, then serve, which drafts with every MTP layer.
"""

import sys

from megatron_mimo import pretrain
from megatron_mimo.config import ConfigError
from megatron_mimo.training.launch import run_program
from megatron_mimo.training.launch_options import split_options


def main(arguments: list[str] | None = None) -> int:
    """Train; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_program(
        f"{__doc__}\n{pretrain.USAGE.replace('megatron-mimo pretrain', 'megatron-mimo draft')}", run, words
    )


def run(arguments: list[str]) -> int:
    """Refuse what would train the whole model, then train as pre-training does. Raises UserError."""
    config = pretrain.settings([word for word in split_options(arguments)[1] if word != "--print-config"])
    start = config.start if config else None
    if start is None or start.train == "all":
        found = None if start is None else start.train
        raise ConfigError(
            "start.train",
            found,
            "draft freezes the model: new_mtp_layers, mtp_layers; pretrain trains all",
        )
    return pretrain.main(arguments)
