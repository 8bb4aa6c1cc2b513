"""A run on paper: memory, communication, time and layouts, without megatron-core."""
