"""Typing into a field of each kind, without a screen."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_app.ui.editing import Editor, Kind, wrap
from edge_app.ui.hangul import keys_of


def typed(kind: Kind, keys: str, max_length: int = 0) -> Editor:
    editor = Editor(kind, max_length)
    for key in keys:
        editor.type(key)
    return editor


def test_a_syllable_is_seen_while_it_grows() -> None:
    editor = Editor()
    seen = []
    for key in "ㄱㅣㅁㅎㅏ":
        editor.type(key)
        seen.append(editor.text)
    assert seen == ["ㄱ", "기", "김", "김ㅎ", "김하"]
    assert editor.composing == (1, 2)
    assert editor.cursor == 2


def test_text_goes_in_where_the_cursor_is() -> None:
    editor = typed(Kind.TEXT, keys_of("김늘"))
    editor.move(1)
    for key in keys_of("하"):
        editor.type(key)
    assert (editor.text, editor.cursor) == ("김하늘", 2)
    editor.type("ㄴ")
    assert editor.text == "김한늘"
    editor.backspace()
    editor.backspace()
    assert editor.text == "김ㅎ늘"
    editor.backspace()
    editor.backspace()
    assert (editor.text, editor.cursor) == ("늘", 0)
    editor.backspace()
    assert editor.text == "늘"


def test_a_code_falls_into_groups_and_becomes_capitals() -> None:
    editor = typed(Kind.CODE, "abcd-2 3ㅎ4", 39)
    assert (editor.text, editor.cursor) == ("ABCD-234", 8)
    editor.move(4)
    editor.type("x")
    assert (editor.text, editor.cursor) == ("ABCD-X234", 6)
    editor.backspace()
    assert (editor.text, editor.cursor) == ("ABCD-234", 4)
    editor.move(5)
    editor.backspace()
    assert (editor.text, editor.cursor) == ("ABC2-34", 3)
    full = typed(Kind.CODE, "23456789" * 5, 39)
    assert full.text == "-".join(["2345", "6789"] * 4)


def test_an_address_takes_what_stands_in_one() -> None:
    assert typed(Kind.ADDRESS, "https://er.example:8443/ 병ㅂ").text == "https://er.example:8443/"


def test_a_finished_syllable_goes_as_a_whole() -> None:
    editor = typed(Kind.TEXT, keys_of("가나"))
    editor.settle()
    editor.backspace()
    assert editor.text == "가"


@given(st.text(st.sampled_from("가각닭왜 aB1"), max_size=12), st.integers(0, 14))
def test_a_limit_holds_and_nothing_typed_before_is_lost(text: str, limit: int) -> None:
    free, limited = typed(Kind.TEXT, keys_of(text)), typed(Kind.TEXT, keys_of(text), limit)
    assert free.text == text
    if limit:
        assert len(limited.text) <= limit
        assert len(limited.text) == min(limit, len(text))
    else:
        assert limited.text == text


@pytest.mark.parametrize(
    ("kind", "keys", "text"),
    [
        (Kind.DIGITS, "9a8ㄱ-", "98"),
        (Kind.DECIMAL, "36.5.2", "36.52"),
        (Kind.DATE, "195", "195"),
        (Kind.DATE, "1950", "1950-"),
        (Kind.DATE, "19500302", "1950-03-02"),
        (Kind.DATE, "195003029", "1950-03-02"),
        (Kind.TEXT, "a\nb", "ab"),
        (Kind.MULTILINE, "a\nb", "a\nb"),
        (Kind.TEXT, "a\x07\u202eb", "ab"),
    ],
)
def test_each_kind_takes_what_belongs_in(kind: Kind, keys: str, text: str) -> None:
    assert typed(kind, keys).text == text


def test_a_date_is_taken_back_digit_by_digit() -> None:
    editor = typed(Kind.DATE, "19500302")
    seen = []
    while editor.text:
        editor.backspace()
        seen.append(editor.text)
    assert seen == ["1950-03-0", "1950-03-", "1950-0", "1950-", "195", "19", "1", ""]


def test_a_digit_in_the_middle_of_a_date_moves_the_hyphens() -> None:
    editor = typed(Kind.DATE, "1950030")
    editor.move(3)
    editor.backspace()
    assert (editor.text, editor.cursor) == ("1900-30-", 2)
    editor.type("5")
    assert (editor.text, editor.cursor) == ("1950-03-0", 3)


def test_a_pin_is_never_shown() -> None:
    editor = typed(Kind.PIN, "4711")
    assert (editor.text, editor.shown) == ("4711", "●●●●")


def lengths(text: str) -> float:
    return float(len(text))


def test_lines_break_at_spaces_and_long_words_anywhere() -> None:
    text = "chest pain since\n\nnoon abcdefghijklmno"
    lines = [text[start:end] for start, end in wrap(text, 10, lengths)]
    assert lines == ["chest pain", "since", "", "noon", "abcdefghij", "klmno"]


@given(st.text(st.sampled_from("ab \n가"), max_size=60), st.integers(1, 12))
def test_lines_hold_the_whole_text_in_order_and_fit(text: str, width: int) -> None:
    lines = wrap(text, width, lengths)
    assert lines
    assert all(end - start <= width for start, end in lines)
    gaps = [text[one[1] : other[0]] for one, other in pairwise(lines)]
    assert all(gap in ("", " ", "\n", " \n") for gap in gaps)
    assert text[: lines[0][0]] == ""
    assert text[lines[-1][1] :] in ("", " ")


def test_a_passphrase_takes_any_letters_and_shows_them_only_when_asked() -> None:
    editor = Editor(Kind.HIDDEN, 12)
    editor.type("ㅎㅏㄴ a1!")
    assert (editor.text, editor.shown) == ("한 a1!", "●" * 5)
    editor.revealed = True
    assert editor.shown == "한 a1!"
