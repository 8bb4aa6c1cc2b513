"""Deduplication of a corpus by URL, by text and by MinHash, as stages of independent tasks."""
