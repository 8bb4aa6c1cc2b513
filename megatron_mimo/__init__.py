"""megatron-mimo: an open, runnable reproduction of Xiaomi's MiMo-7B training system."""

__version__ = "0.1.0"
