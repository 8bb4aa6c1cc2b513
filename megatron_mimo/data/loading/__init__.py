"""From `.bin/.idx` to batches of a mixture."""
