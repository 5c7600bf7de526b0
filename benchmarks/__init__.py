"""Benchmarks of Hogsend, measured in one run: `make bench`."""
