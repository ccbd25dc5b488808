"""Korean and English texts: gettext catalogues for the window, the vocabulary's own names for findings.

English is the source text. Errors come from :mod:`shared` in English with a stable code; their Korean texts are filed
under that code (contexts ``message`` and ``action``), so that they hold whatever values the English sentence names.
"""

from __future__ import annotations

import gettext
from pathlib import Path
from typing import Final

from shared.findings import BY_KEY
from shared.overlay import Language, finding_name

LANGUAGES: Final[dict[Language, str]] = {"en": "English", "ko": "한국어"}
"""Language code -> its own name."""

LOCALE: Final = Path(__file__).parents[1] / "locale"
DOMAIN: Final = "firstray"


class Translator:
    """Texts in one language.

    Args:
        language: ``"ko"``; anything else is read as English.
    """

    def __init__(self, language: str) -> None:
        self.language: Language = "ko" if language == "ko" else "en"
        if self.language == "en":
            self._catalogue = gettext.NullTranslations()
        else:
            self._catalogue = gettext.translation(DOMAIN, LOCALE, [self.language])

    def __call__(self, text: str, **values: object) -> str:
        """Translate ``text`` and fill in its ``{named}`` values."""
        return self._catalogue.gettext(text).format(**values)

    @property
    def other(self) -> Language:
        """The language to switch to."""
        return "ko" if self.language == "en" else "en"

    def finding(self, key: str) -> str:
        """Display name of a finding of the vocabulary."""
        return finding_name(key, self.language)

    def explanation(self, key: str) -> str:
        """One line on what a finding means."""
        finding = BY_KEY[key]
        return finding.explanation_korean if self.language == "ko" else finding.explanation

    def message(self, code: str, english: str) -> str:
        """What happened, for an error's code; ``english`` where no translation is filed."""
        return self._by_code("message", code, english)

    def action(self, code: str, english: str) -> str:
        """What to do next, for an error's code; ``english`` where no translation is filed."""
        return self._by_code("action", code, english)

    def _by_code(self, context: str, code: str, english: str) -> str:
        text = self._catalogue.pgettext(context, code)
        return english if text == code else text
