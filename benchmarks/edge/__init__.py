"""How fast the ambulance's app is: ``python -m benchmarks.edge``. See :mod:`benchmarks.edge.__main__`."""
