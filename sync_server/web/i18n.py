"""Korean and English texts of the pages: gettext catalogues, and the vocabulary's own names for findings.

English is the source text. Errors have a stable code; their Korean texts are filed under it (contexts ``message`` and
``action``), so that they hold whatever values the English sentence names.
"""

from __future__ import annotations

import gettext
from functools import lru_cache
from pathlib import Path
from typing import Final

from shared.errors import FirstRayError
from shared.findings import BY_KEY
from shared.overlay import Language, finding_name

LANGUAGES: Final[dict[Language, str]] = {"ko": "한국어", "en": "English"}
"""Language code -> its own name."""

LOCALE: Final = Path(__file__).parents[1] / "locale"
DOMAIN: Final = "hospital"


class Translator:
    """Texts in one language; ``language`` other than ``"ko"`` is read as English. Get one by :func:`translator`."""

    def __init__(self, language: str) -> None:
        self.language: Language = "ko" if language == "ko" else "en"
        if self.language == "en":
            self._catalogue = gettext.NullTranslations()
        else:
            self._catalogue = gettext.translation(DOMAIN, LOCALE, [self.language])

    def __call__(self, text: str, **values: object) -> str:
        """Translate ``text`` and fill in its ``{named}`` values."""
        translated = self._catalogue.gettext(text)
        return translated.format(**values) if values else translated

    def finding(self, key: str) -> str:
        """Display name of a finding of the vocabulary."""
        return finding_name(key, self.language) if key in BY_KEY else key

    def explanation(self, key: str) -> str:
        """One line on what a finding means."""
        finding = BY_KEY[key]
        return finding.explanation_korean if self.language == "ko" else finding.explanation

    def error(self, error: FirstRayError) -> tuple[str, str]:
        """What happened and what to do next; the error's own English where no translation is filed."""
        return self._by_code("message", error.code, error.message), self._by_code("action", error.code, error.action)

    def _by_code(self, context: str, code: str, english: str) -> str:
        text = self._catalogue.pgettext(context, code)
        return english if text == code else text


@lru_cache(maxsize=4)
def translator(language: str) -> Translator:
    """The translator of a language."""
    return Translator(language)
