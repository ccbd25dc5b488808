"""The composer against Unicode's own composition of conjoining jamo (normalisation form C)."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_app.ui.hangul import (
    DOUBLE_FINALS,
    DOUBLE_VOWELS,
    FINALS,
    INITIALS,
    LATIN_KEYS,
    VOWELS,
    Composer,
    compose,
    jamo_of,
    keys_of,
)

SYLLABLES = [chr(code) for code in range(0xAC00, 0xD7A4)]
KEYS = sorted(set(LATIN_KEYS.values()))
CONSONANT_KEYS = "".join(key for key in KEYS if key in INITIALS)
VOWEL_KEYS = "".join(key for key in KEYS if key in VOWELS)


def unicode_keys(syllable: str) -> list[str]:
    """Jamo of a syllable by Unicode's decomposition, doubles as pairs of keys where no key has them."""
    keys = []
    for letter in unicodedata.normalize("NFD", syllable):
        code = ord(letter)
        if code <= 0x1112:
            keys.append(INITIALS[code - 0x1100])
        elif code <= 0x1175:
            keys.append(VOWELS[code - 0x1161])
        else:
            keys.append(FINALS[code - 0x11A7])
    pairs = {double: pair for pair, double in (DOUBLE_VOWELS | DOUBLE_FINALS).items()}
    return [key for jamo in keys for key in pairs.get(jamo, jamo)]


def by_unicode(keys: str) -> str:
    """What typing ``keys`` must give: cut into syllables by a pattern, each composed by Unicode."""
    vowel = "|".join([*DOUBLE_VOWELS, *VOWEL_KEYS])
    final = "|".join([*DOUBLE_FINALS, *(key for key in CONSONANT_KEYS if key in FINALS)])
    pattern = f"([{CONSONANT_KEYS}])({vowel})((?:{final})(?![{VOWEL_KEYS}]))?|({vowel})|(.)"
    text = ""
    for initial, middle, last, lone_vowel, other in re.findall(pattern, keys, re.DOTALL):
        if not initial:
            text += DOUBLE_VOWELS.get(lone_vowel, lone_vowel) or other
            continue
        code = [0x1100 + INITIALS.index(initial), 0x1161 + VOWELS.index(DOUBLE_VOWELS.get(middle, middle))]
        if last:
            code.append(0x11A7 + FINALS.index(DOUBLE_FINALS.get(last, last)))
        text += unicodedata.normalize("NFC", "".join(map(chr, code)))
    return text


def test_every_syllable_is_typed_and_composed() -> None:
    assert len(SYLLABLES) == 11_172
    for syllable in SYLLABLES:
        keys = unicode_keys(syllable)
        assert set(keys) <= set(KEYS)
        assert compose("".join(keys)) == syllable
        assert keys_of(syllable) == "".join(keys)


@given(st.text(st.sampled_from(KEYS + list(" a1")), max_size=40))
def test_any_keys_give_what_unicode_composes(keys: str) -> None:
    assert compose(keys) == by_unicode(keys)


@given(st.text(st.one_of(st.sampled_from(SYLLABLES), st.sampled_from(" ,.aZ7")), max_size=30))
def test_any_text_can_be_typed(text: str) -> None:
    assert compose(keys_of(text)) == text


@given(st.lists(st.sampled_from(KEYS), max_size=5))
def test_backspace_undoes_one_jamo_at_a_time(keys: list[str]) -> None:
    composer = Composer()
    seen = [""]
    for key in keys:
        if composer.press(key):
            seen = [""]
            if composer.initial and composer.vowel:
                seen.append(composer.initial)
        seen.append(composer.composing)
    while seen:
        assert composer.composing == seen.pop()
        assert composer.backspace() is bool(seen)


@pytest.mark.parametrize(
    ("latin", "korean"),
    [
        ("dkssudgktpdy", "안녕하세요"),
        ("ghkswk", "환자"),
        ("dmlfy", "의료"),
        ("ekfr", "닭"),
        ("ekfrdl", "닭이"),
        ("ekfrl", "달기"),
        ("Qkfflskrk", "빨리나가"),
        ("rudqnrch", "경북초"),
        ("rkrtkd", "각상"),
        ("TJTek", "썼다"),
        ("dhodlfjsi", "왜이러냐"),
        ("ㅋㅋ", "ㅋㅋ"),
        ("dPdml", "예의"),
        ("rnpwp", "궤제"),
    ],
)
def test_a_latin_keyboard_types_korean(latin: str, korean: str) -> None:
    assert compose("".join(jamo_of(letter) or letter for letter in latin)) == korean


def test_the_layout_has_33_letters_and_a_capital_without_its_own_gives_the_small_one() -> None:
    assert len(KEYS) == 33
    assert jamo_of("A") == jamo_of("a") == "ㅁ"
    assert jamo_of("R") == "ㄲ"
    assert jamo_of("1") == jamo_of("한") == ""


def test_only_one_key_at_a_time_is_taken() -> None:
    for wrong in ("", "a", "한", "ㄱㄴ", "ㄳ"):
        with pytest.raises(ValueError, match="no key"):
            Composer().press(wrong)
