"""What the theme promises about contrast and size, and that the bundled fonts can write what the window says."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import ImageFont

from edge_app.ui import theme
from edge_app.ui.i18n import LOCALE
from edge_app.ui.theme import Colour
from shared.calibration import State
from shared.findings import FINDINGS
from shared.fonts import BOLD, REGULAR
from shared.overlay import LABEL_GROUND, NOTE_GROUND, RED
from shared.quality import MESSAGES_KO

GROUNDS = ("GROUND", "CARD", "FIELD")


def luminance(colour: Colour) -> float:
    """Relative luminance (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(params=theme.NAMES, autouse=True)
def palette(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each palette in turn."""
    theme.use(request.param)
    yield request.param
    theme.use("dark")


ON_EVERY_GROUND = [(text, ground) for text in ("TEXT", "MUTED", "WARNING", "GOOD", "URGENT") for ground in GROUNDS]
PAIRS = [
    ("TEXT", "CARD_PRESSED"),
    ("MUTED", "CARD_PRESSED"),
    ("TEXT", "KEY"),
    ("TEXT", "KEY_ACTION"),
    ("GROUND", "MUTED"),
    ("GROUND", "TEXT"),
    ("ON_ACTION", "ACTION"),
    ("ON_ACTION", "ACTION_PRESSED"),
    ("ON_URGENT", "URGENT_GROUND"),
    ("ON_URGENT", "URGENT_PRESSED"),
    ("IMAGE_TEXT", "IMAGE_GROUND"),
    ("IMAGE_TEXT", "IMAGE_TOOL"),
    ("IMAGE_TEXT", "IMAGE_TOOL_PRESSED"),
    ("ON_IMAGE_ACTION", "IMAGE_ACTION"),
    ("IMAGE_TEXT", "BOX_LABEL"),
    ("NOTE_TEXT", "NOTE_GROUND"),
]


@pytest.mark.parametrize(("text", "ground"), ON_EVERY_GROUND + PAIRS)
def test_text_stands_out_from_its_ground(text: str, ground: str) -> None:
    assert contrast(getattr(theme, text), getattr(theme, ground)) >= 7


@pytest.mark.parametrize(
    ("figure", "ground"),
    [
        ("URGENT", "TRACK"),
        ("WARNING", "TRACK"),
        ("GOOD", "TRACK"),
        ("BAR", "TRACK"),
        ("ACTION", "FIELD"),
        ("ACTION", "TRACK"),
        ("MUTED", "FIELD"),
        ("BOX", "GROUND"),
        ("BOX", "IMAGE_GROUND"),
        ("BOX", "BOX_RIM"),
    ],
)
def test_bars_edges_and_boxes_stand_out(figure: str, ground: str) -> None:
    assert contrast(getattr(theme, figure), getattr(theme, ground)) >= 3


def test_a_palette_sets_every_colour() -> None:
    assert theme.PALETTES["dark"].keys() == theme.PALETTES["light"].keys()
    named = {name for name, kind in theme.__annotations__.items() if kind == "Colour"}
    assert named == theme.PALETTES["dark"].keys()


def test_states_and_kinds_follow_the_palette_and_are_told_apart_without_colour(palette: str) -> None:
    assert theme.name == palette
    assert theme.STATE["likely"] == theme.PALETTES[theme.name]["TEXT"]
    assert set(theme.STATE) == {state.value for state in State}
    assert theme.KIND["urgent"] == theme.PALETTES[theme.name]["URGENT"]
    assert len(set(theme.KIND_MARK.values())) == len(theme.KIND_MARK) == len(theme.KIND)


def test_an_unknown_palette_is_refused_and_changes_nothing(palette: str) -> None:
    with pytest.raises(ValueError, match="no palette"):
        theme.use("sepia")  # type: ignore[arg-type]
    assert theme.name == palette


def test_boxes_have_the_colours_of_the_picture_that_is_sent() -> None:
    for ours, theirs in ((theme.BOX, RED), (theme.BOX_LABEL, LABEL_GROUND), (theme.NOTE_GROUND, NOTE_GROUND)):
        assert [round(part * 255) for part in ours[:3]] == list(theirs)


def test_targets_are_large_enough_for_a_glove() -> None:
    assert min(theme.TARGET, theme.ACTION_HEIGHT, theme.ROW_HEIGHT) >= 48


@pytest.mark.parametrize("font", [REGULAR, BOLD], ids=lambda path: path.stem)
def test_the_font_has_every_character_of_the_window(font: Path) -> None:
    face = ImageFont.truetype(str(font), 24)
    missing = bytes(face.getmask("\U0010fffd"))
    texts = [finding.english + finding.korean + finding.explanation_korean for finding in FINDINGS]
    texts += [message + action for message, action in MESSAGES_KO.values()]
    texts += [(LOCALE / "ko" / "LC_MESSAGES" / "firstray.po").read_text()]
    texts += [path.read_text() for path in Path(theme.__file__).parent.rglob("*.kv")]
    texts += ["".join(theme.KIND_MARK.values()), "ÀÉîöü뷁쀍홝ㄱㅏ한국어"]
    characters = sorted({c for text in texts for c in re.sub(r"\s", "", text)})
    assert not [c for c in characters if bytes(face.getmask(c)) == missing]
