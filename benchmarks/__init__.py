"""``python -m benchmarks``: how fast FirstRay reads a radiograph here, beside the ways one would do it otherwise.

Every way of reading runs in a process of its own; they take turns (A B A B), so that the machine's noise meets all
alike.
"""
