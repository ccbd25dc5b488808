"""Korean typing: keys of the dubeolsik layout (KS X 5002) become syllables (Unicode 15, section 3.12).

Kivy hides a syllable while it is being composed, so the app composes itself. Jamo are the letters on the keys, U+3131
to U+3163; a syllable is U+AC00 + (initial x 21 + vowel) x 28 + final.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INITIALS: Final = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS: Final = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
FINALS: Final = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
"""In the order of Unicode's composition."""

FIRST_SYLLABLE: Final = 0xAC00
LAST_SYLLABLE: Final = 0xD7A3

DOUBLE_VOWELS: Final = {
    "ㅗㅏ": "ㅘ",
    "ㅗㅐ": "ㅙ",
    "ㅗㅣ": "ㅚ",
    "ㅜㅓ": "ㅝ",
    "ㅜㅔ": "ㅞ",
    "ㅜㅣ": "ㅟ",
    "ㅡㅣ": "ㅢ",
}
DOUBLE_FINALS: Final = {
    "ㄱㅅ": "ㄳ",
    "ㄴㅈ": "ㄵ",
    "ㄴㅎ": "ㄶ",
    "ㄹㄱ": "ㄺ",
    "ㄹㅁ": "ㄻ",
    "ㄹㅂ": "ㄼ",
    "ㄹㅅ": "ㄽ",
    "ㄹㅌ": "ㄾ",
    "ㄹㅍ": "ㄿ",
    "ㄹㅎ": "ㅀ",
    "ㅂㅅ": "ㅄ",
}
"""Two keys -> the one letter they make together. ㄲ and ㅆ have keys of their own."""

_TAKEN_APART: Final = {double: keys for keys, double in (DOUBLE_VOWELS | DOUBLE_FINALS).items()}

LATIN_KEYS: Final = dict(
    zip("qwertyuiopasdfghjklzxcvbnm", "ㅂㅈㄷㄱㅅㅛㅕㅑㅐㅔㅁㄴㅇㄹㅎㅗㅓㅏㅣㅋㅌㅊㅍㅠㅜㅡ", strict=True)
) | dict(zip("QWERTOP", "ㅃㅉㄸㄲㅆㅒㅖ", strict=True))
"""Letter on a Latin keyboard -> jamo on the same key. Other capitals give the jamo of their small letter."""


def jamo_of(letter: str) -> str:
    """The jamo on the key of a Latin letter; empty for anything else."""
    return LATIN_KEYS.get(letter) or LATIN_KEYS.get(letter.lower(), "")


def keys_of(text: str) -> str:
    """The keys that type a text: every syllable taken apart to single letters, everything else as it is."""
    keys = []
    for character in text:
        if FIRST_SYLLABLE <= ord(character) <= LAST_SYLLABLE:
            rest, final = divmod(ord(character) - FIRST_SYLLABLE, len(FINALS))
            initial, vowel = divmod(rest, len(VOWELS))
            letters = [INITIALS[initial], VOWELS[vowel], FINALS[final]]
        else:
            letters = [character]
        keys += [_TAKEN_APART.get(letter, letter) for letter in letters]
    return "".join(keys)


@dataclass
class Composer:
    """The syllable that is being typed: ``initial``, ``vowel`` and ``final`` are jamo, empty where not typed yet."""

    initial: str = ""
    vowel: str = ""
    final: str = ""

    @property
    def composing(self) -> str:
        """The syllable so far, as it is shown; empty between syllables."""
        if not (self.initial and self.vowel):
            return self.initial or self.vowel
        place = INITIALS.index(self.initial) * len(VOWELS) + VOWELS.index(self.vowel)
        return chr(FIRST_SYLLABLE + place * len(FINALS) + FINALS.index(self.final))

    def press(self, jamo: str) -> str:
        """Type one jamo of the layout; returns the text that this finishes, mostly none.

        Raises:
            ValueError: ``jamo`` is on no key.
        """
        if len(jamo) == 1 and jamo in VOWELS:
            return self._vowel(jamo)
        if len(jamo) == 1 and jamo in INITIALS:
            return self._consonant(jamo)
        raise ValueError(f"no key has {jamo!r}")

    def backspace(self) -> bool:
        """Take the last jamo back; False where no syllable is being typed."""
        if self.final:
            self.final = _TAKEN_APART.get(self.final, self.final)[:-1]
        elif self.vowel:
            self.vowel = _TAKEN_APART.get(self.vowel, self.vowel)[:-1]
        elif self.initial:
            self.initial = ""
        else:
            return False
        return True

    def flush(self) -> str:
        """End the syllable; returns it."""
        done = self.composing
        self.initial = self.vowel = self.final = ""
        return done

    def _consonant(self, jamo: str) -> str:
        if self.initial and self.vowel:
            final = DOUBLE_FINALS.get(self.final + jamo, "") if self.final else jamo
            if final and final in FINALS:
                self.final = final
                return ""
        done = self.flush()
        self.initial = jamo
        return done

    def _vowel(self, jamo: str) -> str:
        if self.final:
            keys = _TAKEN_APART.get(self.final, self.final)
            self.final, moved = keys[:-1], keys[-1]
            done = self.flush()
            self.initial, self.vowel = moved, jamo
            return done
        if not self.vowel:
            self.vowel = jamo
            return ""
        if double := DOUBLE_VOWELS.get(self.vowel + jamo):
            self.vowel = double
            return ""
        done = self.flush()
        self.vowel = jamo
        return done


def compose(keys: str) -> str:
    """What typing these keys gives; characters that are no jamo of the layout end the syllable and stay."""
    composer, text = Composer(), ""
    for key in keys:
        text += composer.press(key) if key in INITIALS or key in VOWELS else composer.flush() + key
    return text + composer.flush()
