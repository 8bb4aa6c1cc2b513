"""Verifiable problems: records, readers of common formats, curation (report section 3.1), generated nano problems."""
