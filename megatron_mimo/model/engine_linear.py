"""Transformer Engine's column-parallel layer for the MTP layers' projection. Importing it needs Transformer Engine."""

import copy
from typing import Any

from megatron.core.extensions.transformer_engine import TEColumnParallelLinear


class ProjectionWithoutOverlap(TEColumnParallelLinear):
    """A projection outside of the decoder layers, for which Transformer Engine has no user buffer.

    megatron-core 0.16.1 refuses such a layer under `tp_comm_overlap`, or switches the overlap off in the configuration
    that all layers share. This one has a configuration of its own.
    """

    def __init__(self, *arguments: Any, config: Any, **named: Any) -> None:
        if config.tp_comm_overlap:
            config = copy.copy(config)
            config.tp_comm_overlap = False
        super().__init__(*arguments, config=config, **named)
