"""Decontamination: find benchmark questions in training data by exact word n-grams."""
