import torch

from megatron_mimo.rl.logprobs import vocabulary_entropy
from megatron_mimo.rl.policy_loss import token_entropy


def test_entropy_of_known_distributions() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1000.0, 0.0, 0.0, 0.0], [-5e4, -5e4, -9e4, -9e4]])
    expected = torch.tensor([4.0, 1.0, 2.0]).log()
    torch.testing.assert_close(vocabulary_entropy(logits), expected)
    noise = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)) * 4
    torch.testing.assert_close(vocabulary_entropy(noise), token_entropy(noise))
