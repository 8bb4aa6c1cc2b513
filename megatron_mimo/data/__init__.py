"""From text to batches of tokens: corpus, tokenizer, Megatron `.bin/.idx` files, mixtures, loaders."""
