"""The version of FirstRay that runs."""

from importlib import metadata

VERSION = metadata.version("firstray")
