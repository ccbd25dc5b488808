"""The command line of FirstRay."""

__version__ = "0.1.0"
