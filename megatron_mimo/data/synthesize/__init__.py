"""Synthetic reasoning data (report section 2.2): queries to a large model, verified and selected answers."""
