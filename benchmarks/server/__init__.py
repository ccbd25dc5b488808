"""Benchmarks of the hospital: what its server and workers do a second, measured on this machine."""
