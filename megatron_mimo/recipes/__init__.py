"""Recipes of every size from one set of templates: sizes differ in the numbers of `sizes.yaml` only."""
