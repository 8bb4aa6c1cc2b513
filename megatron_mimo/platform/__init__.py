"""What the program runs on: the bridge that lets megatron-core run without CUDA, and the environment report."""
