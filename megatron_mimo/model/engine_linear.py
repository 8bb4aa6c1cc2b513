"""Transformer Engine's linear layers with settings that megatron-core gives to all layers or none.

Importing this module needs Transformer Engine.
"""

import copy
from typing import Any

from megatron.core.extensions.transformer_engine import (
    TEColumnParallelLinear,
    TELayerNormColumnParallelLinear,
    TERowParallelLinear,
)

LINEAR_LAYERS = (TELayerNormColumnParallelLinear, TEColumnParallelLinear, TERowParallelLinear)


def linear_layers(fuse_gradient_accumulation: bool) -> dict[str, type]:
    """The layers by megatron-core's names for them.

    With `fuse_gradient_accumulation` their products for weight gradients add to the gradient buffer. megatron-core's
    setting of that name makes its output layer do so as well, for which it wants NVIDIA Apex.
    """
    settings = {"gradient_accumulation_fusion": True} if fuse_gradient_accumulation else {}
    layers = {layer.__name__: with_settings(layer, settings) if settings else layer for layer in LINEAR_LAYERS}
    # Transformer Engine has no user buffers for the projection of MTP layers. megatron-core 0.16.1 refuses such a layer
    # under `tp_comm_overlap`, or switches the overlap off in the configuration that all layers share.
    apart = with_settings(TEColumnParallelLinear, settings | {"tp_comm_overlap": False})
    return layers | {"TEColumnParallelLinear": apart}


def with_settings(layer: Any, settings: dict[str, Any]) -> type:
    """The layer with a TransformerConfig of its own in which `settings` hold."""

    class WithSettings(layer):
        def __init__(self, *arguments: Any, config: Any, **named: Any) -> None:
            config = copy.copy(config)
            vars(config).update(settings)
            super().__init__(*arguments, config=config, **named)

    WithSettings.__name__ = WithSettings.__qualname__ = layer.__name__
    return WithSettings
