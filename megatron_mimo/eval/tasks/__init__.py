"""The benchmarks that this package grades itself, one family a file."""
