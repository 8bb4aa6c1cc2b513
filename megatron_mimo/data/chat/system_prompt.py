"""The system prompt as chat templates read it. Evaluation, RL prompts, fine-tuning records and chat all use this.

A template may insert a prompt of its own where no system message stands: Xiaomi's MiMo-7B templates do, and the model
card passes an empty system message, which keeps it out.
"""


def system_message(prompt: str | None) -> list[dict[str, str]]:
    """The messages that a conversation begins with: an empty prompt is an empty system message, None is no message."""
    return [] if prompt is None else [{"role": "system", "content": prompt}]
