"""Work that outlives a request: the full-precision reading of every image."""
