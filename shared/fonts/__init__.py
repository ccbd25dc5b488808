"""The typeface of the window and of labels on images: Latin and Hangul, two weights (see ``README.md``)."""

from pathlib import Path
from typing import Final

REGULAR: Final = Path(__file__).parent / "FirstRayGothic-Regular.ttf"
BOLD: Final = Path(__file__).parent / "FirstRayGothic-Bold.ttf"
