"""Clients that mean harm, against a real server process: its memory stays bounded, and it answers everybody else."""
