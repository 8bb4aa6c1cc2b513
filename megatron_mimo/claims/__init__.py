"""The report's claims, re-tested at nano size: studies that are fixed before they run, their results, the verdicts."""
