"""What the screen needs before anyone has unlocked it: language, theme, time to the lock. No patient data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FILE = "preferences.json"


class Preferences(BaseModel):
    """How the screen looks and behaves.

    Attributes:
        language: of the screens and of the labels on pictures.
        theme: colours.
        lock_minutes: without a touch until the screen locks, 1..60.
    """

    model_config = ConfigDict(frozen=True)

    language: Literal["en", "ko"] = "en"
    theme: Literal["dark", "light"] = "dark"
    lock_minutes: Annotated[int, Field(ge=1, le=60)] = 10


def load_preferences(folder: Path) -> Preferences:
    """The preferences kept in ``folder``; the defaults where there are none or they cannot be read."""
    try:
        return Preferences.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return Preferences()


def save_preferences(folder: Path, preferences: Preferences) -> None:
    """Keep the preferences; raises OSError where the disk does not take them."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / (FILE + ".new")
    draft.write_text(preferences.model_dump_json())
    os.replace(draft, folder / FILE)
