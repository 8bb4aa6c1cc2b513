"""An exported Hugging Face folder as a scorer of token ids.

Shapes: `b`atch, `s`equence, `v`ocabulary.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from megatron_mimo.config import UserError
from megatron_mimo.serve.speculative import compute_dtype


class HuggingFaceScorer:
    """Log-probabilities by a Transformers model in evaluation mode; main model only, no MTP layers."""

    def __init__(self, model: Any) -> None:
        """Take a Transformers causal language model, wherever its weights are."""
        self.model = model.eval()

    @classmethod
    def load(cls, folder: Path) -> "HuggingFaceScorer":
        """Load an exported folder. This runs the folder's Python code: use folders you trust.

        It computes in the dtype of its weights, or in fp32 on a CPU that would emulate bf16.
        """
        check_exported(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=compute_dtype(folder))
        return cls(model.to(device))

    @property
    def context_tokens(self) -> int:
        """Longest sequence the model was made for."""
        return int(self.model.config.max_position_embeddings)

    @torch.inference_mode()
    def __call__(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Token ids `[b, s]` -> natural log-probabilities of `ids[:, 1:]`, `[b, s-1]`, softmax in fp32."""
        device = next(self.model.parameters()).device
        tokens = torch.from_numpy(ids).to(device)
        logits = self.model(input_ids=tokens, use_cache=False).logits[:, :-1]
        losses = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
        return -losses.view(len(ids), -1).cpu().numpy()


def check_exported(folder: Path) -> None:
    """Raise UserError where `folder` is not a Hugging Face model folder."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} is not an exported model: {' and '.join(missing)} not found; "
            "export a checkpoint first (megatron-mimo convert)"
        )
