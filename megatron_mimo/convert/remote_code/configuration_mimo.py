# SPDX-License-Identifier: Apache-2.0
"""Configuration of MiMo: Qwen2's, and what describes the multi-token prediction (MTP) layers."""

from transformers import Qwen2Config


class MiMoConfig(Qwen2Config):
    """`num_nextn_predict_layers` MTP layers, all fed with the main model's hidden state.

    mtp_hidden_state: "before_final_norm" or "after_final_norm", the hidden state that feeds them.
    mtp_zero_first_embedding: whether the token embedding is zeroed where position == 0.
    """

    model_type = "mimo"

    def __init__(
        self,
        num_nextn_predict_layers=1,
        mtp_hidden_state="before_final_norm",
        mtp_zero_first_embedding=True,
        **kwargs,
    ):
        self.num_nextn_predict_layers = num_nextn_predict_layers
        self.mtp_hidden_state = mtp_hidden_state
        self.mtp_zero_first_embedding = mtp_zero_first_embedding
        super().__init__(**kwargs)
