"""The MiMo model: reference, megatron-core assembly, sizes."""
