"""Readers: files (or the embedded corpus) -> documents, each task its own share."""
