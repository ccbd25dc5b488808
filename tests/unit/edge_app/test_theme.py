"""What the theme promises about contrast and size, and that the bundled fonts can write what the window says."""

import re
from pathlib import Path

import pytest
from PIL import ImageFont

from edge_app.ui import theme
from edge_app.ui.i18n import LOCALE
from edge_app.ui.theme import Colour
from shared.findings import FINDINGS
from shared.fonts import BOLD, REGULAR
from shared.quality import MESSAGES_KO


def luminance(colour: Colour) -> float:
    """Relative luminance (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("text", "ground"),
    [
        (text, ground)
        for text in ("TEXT", "MUTED", "WARNING")
        for ground in ("GROUND", "IMAGE_GROUND", "CARD", "CARD_PRESSED")
        if (text, ground) not in {("MUTED", "CARD_PRESSED"), ("WARNING", "CARD_PRESSED")}
    ]
    + [("ON_ACTION", "ACTION"), ("ON_ACTION", "ACTION_PRESSED"), ("TEXT", "URGENT_GROUND")],
)
def test_text_stands_out_from_its_ground(text: str, ground: str) -> None:
    assert contrast(getattr(theme, text), getattr(theme, ground)) >= 7


@pytest.mark.parametrize(
    ("figure", "ground"), [("URGENT", "CARD"), ("BAR", "TRACK"), ("URGENT", "TRACK"), ("BOX", "GROUND")]
)
def test_large_figures_and_bars_stand_out(figure: str, ground: str) -> None:
    assert contrast(getattr(theme, figure), getattr(theme, ground)) >= 3


def test_targets_are_large_enough_for_a_glove() -> None:
    assert min(theme.TARGET, theme.ACTION_HEIGHT, theme.ROW_HEIGHT) >= 48


@pytest.mark.parametrize("font", [REGULAR, BOLD], ids=lambda path: path.stem)
def test_the_font_has_every_character_of_the_window(font: Path) -> None:
    face = ImageFont.truetype(str(font), 24)
    missing = bytes(face.getmask("\U0010fffd"))
    texts = [finding.english + finding.korean + finding.explanation_korean for finding in FINDINGS]
    texts += [message + action for message, action in MESSAGES_KO.values()]
    texts += [(LOCALE / "ko" / "LC_MESSAGES" / "firstray.po").read_text()]
    texts += [Path(theme.__file__).with_name("window.kv").read_text(), "ÀÉîöü뷁쀍홝ㄱㅏ한국어"]
    characters = sorted({c for text in texts for c in re.sub(r"\s", "", text)})
    assert not [c for c in characters if bytes(face.getmask(c)) == missing]
