"""A check for `megatron-mimo gpu-check`: the head of RL, on the weights that training uses."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from megatron_mimo.gpu_checks.device_finding import NANO, NARROW, Finding, precision
from megatron_mimo.rl.logprobs import PolicyHead
from megatron_mimo.training.probe import Probe, library_rows, one_process

BAR = 0.02


def policy_head(on_gpu: bool) -> Finding:
    """Log-probabilities and entropy of the policy's head against log-softmax of its logits in fp32."""
    model, s = (NANO, 512) if on_gpu else (NARROW, 64)
    with one_process():
        probe = Probe(model=model, precision=precision(on_gpu), seq_length=s)
        chunk: Any = probe.chunks[0]
        batch = probe.batch(library_rows(1, s))
        inputs = (batch.tokens, batch.position_ids, batch.attention_mask)
        with torch.no_grad():
            found: Tensor = chunk(*inputs, batch.labels[:1], main_head=PolicyHead(chunk, with_entropy=True))
            logits: Tensor = chunk(*inputs, batch.labels, return_logits=True)[0]
    expected = F.log_softmax(logits.float(), dim=-1)
    taken = expected.gather(-1, batch.labels[0].unsqueeze(-1)).squeeze(-1)
    entropy = -(expected.exp() * expected).sum(-1)
    worst = [float((a - b).abs().max()) for a, b in ((found[0], taken), (found[1], entropy))]
    summary = f"largest difference: log-probability {worst[0]:.1e}, entropy {worst[1]:.1e} nats"
    return Finding(max(worst) < BAR, summary, {"worst": worst})
