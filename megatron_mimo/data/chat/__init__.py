"""Conversations for fine-tuning: reading, filtering, the chat template with its loss mask, packing."""
