"""What a server, a network or an attacker may do to an exchange."""

import re
from dataclasses import dataclass
from enum import StrEnum


class How(StrEnum):
    """Ways to misbehave."""

    STATUS = "status"
    """Answer ``status`` with a problem document of ``code``, without doing anything."""
    PORTAL = "portal"
    """Answer 200 with a log-in page."""
    REDIRECT = "redirect"
    """Send the client elsewhere."""
    GARBAGE = "garbage"
    """Answer 200 with JSON of another kind."""
    HUGE = "huge"
    """Answer a gzip that inflates to far more than anybody should take."""
    DROP = "drop"
    """Take ``after_bytes`` of the body, then cut the connection; an upload keeps what it got."""
    LOSE_ANSWER = "lose_answer"
    """Do what was asked, then cut the connection without an answer."""
    HANG = "hang"
    """Do what was asked, but answer only after ``seconds``."""
    FORGE = "forge"
    """Sign receipts with a key that is not the hospital's, under the name of the hospital's."""
    CORRUPT = "corrupt"
    """Damage the bytes that arrive."""


@dataclass
class Misbehaviour:
    """Misbehave towards requests whose ``METHOD /path`` matches ``where``, ``times`` times (None: always)."""

    how: How
    where: str = ".*"
    times: int | None = None
    status: int = 503
    code: str = "unavailable"
    retry_after: int | None = None
    after_bytes: int = 0
    seconds: float = 0.0

    def meets(self, request: str) -> bool:
        """Whether it is this one's turn; counts it."""
        if self.times == 0 or not re.match(self.where, request):
            return False
        if self.times is not None:
            self.times -= 1
        return True
