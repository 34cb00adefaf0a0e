"""Benchmarks, run by `make bench`: what the product does, as a ratio of what its parts allow on the same machine."""
