"""The record of a run, of whatever kind: its metrics file, and the charts of its report."""
