"""The corpus of MiMo-nano: what this Python carries, and generated reasoning."""
