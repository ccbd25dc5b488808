"""Setting a radiograph upright and its greys right before it is read: offered by the gate, done only when asked for.

Quarter turns and swapped greys lose nothing, so a corrected radiograph is, pixel for pixel, what a correct one would
have been, and undoing a wrong correction gives the original back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:  # what it imports is too much for programs that only read files
    from shared.preprocess import GreyImage

_WORDS = {
    "en": ("turned 90° anticlockwise", "turned by 180°", "turned 90° clockwise", "black and white swapped", " and "),
    "ko": ("시계 반대 방향으로 90도 회전", "180도 회전", "시계 방향으로 90도 회전", "흑백 반전", ", "),
}


class Correction(BaseModel):
    """What was, or may be, done to a radiograph's pixels.

    Attributes:
        quarter_turns: turns by 90 degrees anticlockwise, as ``numpy.rot90`` counts them, 0..3.
        invert: whether black and white are swapped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quarter_turns: int = Field(default=0, ge=0, le=3)
    invert: bool = False

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self.quarter_turns != 0 or self.invert

    def then(self, other: Correction) -> Correction:
        """This one followed by ``other``, as one."""
        return Correction(
            quarter_turns=(self.quarter_turns + other.quarter_turns) % 4, invert=self.invert != other.invert
        )

    def apply(self, pixels: GreyImage) -> GreyImage:
        """The corrected copy of ``pixels`` ``[H, W]``, uint8 or uint16; height and width swap on an odd turn."""
        turned = cast("GreyImage", np.array(np.rot90(pixels, self.quarter_turns), order="C"))
        return np.invert(turned) if self.invert else turned

    def describe(self, language: Literal["en", "ko"] = "en") -> str:
        """What it does, for a note beside the result: for example "turned by 180° and black and white swapped"."""
        *turns, swapped, joint = _WORDS[language]
        parts = [turns[self.quarter_turns - 1]] if self.quarter_turns else []
        return joint.join([*parts, swapped] if self.invert else parts)
