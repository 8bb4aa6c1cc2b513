"""What of the GPU parts works on a machine."""
