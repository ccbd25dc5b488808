"""The command line of FirstRay."""
