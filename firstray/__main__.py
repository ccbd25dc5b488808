"""``python -m firstray``."""

from firstray.cli import main

main()
