"""Clients of model servers, and the journal in which their answers are kept."""
