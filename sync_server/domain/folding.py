"""Text as it is searched: what is written and what is looked for fold to the same."""

from __future__ import annotations

import unicodedata


def folded(text: str) -> str:
    """Compatibility forms, letter case and runs of blanks made alike (Unicode NFKC, default case folding).

    Korean typed as single letters (NFD, as some systems send it) finds what was typed as syllables.
    """
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())
