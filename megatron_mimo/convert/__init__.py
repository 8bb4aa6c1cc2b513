"""Megatron checkpoints <-> Hugging Face folders."""
