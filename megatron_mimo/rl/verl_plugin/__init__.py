"""The recipe inside stock verl 0.9.1 (docs/verl.md). Only files of this folder import verl."""
