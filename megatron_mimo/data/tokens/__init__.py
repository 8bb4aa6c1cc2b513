"""From documents to Megatron's `.bin/.idx`, and from foreign pairs."""
