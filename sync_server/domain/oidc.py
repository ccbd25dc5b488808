"""OpenID Connect log-in (Core 1.0, 3.1): what a log-in under way remembers, and when an ID token is believed.

A log-in under way is kept by the browser itself, in a cookie that the server signs: nothing is written for strangers,
and every process of the hospital can finish what another began. It binds the answer to this browser (``state``), the ID
token to this log-in (``nonce``), and the provider's code to whoever asked for it (PKCE, RFC 7636). It is good once: the
browser forgets it with the first answer, and the provider takes a code only once (RFC 6749, 4.1.2).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from shared.errors import FirstRayError

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384")
"""Signatures that are believed; never ``none``, never one made with the client's secret."""
ATTEMPT_SECONDS: Final = 600
"""So long somebody may take to log in at the provider."""
LEEWAY_SECONDS: Final = 60
"""So far the provider's clock may be from ours."""
LONGEST_SUBJECT: Final = 255
LONGEST_NEXT: Final = 1000
"""Bytes of the page somebody wanted; beyond them it is the front page, for browsers keep 4,096 of a cookie."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A log-in under way: the random values it is bound by, and the page that was wanted (a path of this server)."""

    state: str
    nonce: str
    verifier: str
    next: str

    @property
    def challenge(self) -> str:
        """What the provider is told of the verifier: ``S256`` (RFC 7636, 4.2)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody proved to be: the provider's subject, and names the provider vouches for, in small letters."""

    subject: str
    names: frozenset[str]


def begin(next: str) -> Attempt:
    """A new log-in, with 256 random bits in each value."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Attempt(state, nonce, verifier, next if len(next.encode()) <= LONGEST_NEXT else "/")


class Attempts:
    """Signs what the browser keeps of a log-in, and believes it for :data:`ATTEMPT_SECONDS`.

    Args:
        secret: of the hospital.
        now: seconds since 1970 UTC.
    """

    def __init__(self, secret: bytes, now: Callable[[], float] = time.time) -> None:
        self._key = OctKey.import_key(HKDF(SHA256(), 32, salt=None, info=b"firstray oidc attempts").derive(secret))
        self._now = now

    def seal(self, attempt: Attempt) -> str:
        """For the browser to keep, out of scripts' reach."""
        claims = asdict(attempt) | {"exp": int(self._now()) + ATTEMPT_SECONDS}
        return jwt.encode({"alg": "HS256"}, claims, self._key, algorithms=["HS256"])

    def open(self, sealed: str, state: str) -> Attempt:
        """The log-in that ``state`` belongs to.

        Raises:
            FirstRayError: ``oidc_expired``: none of this browser, finished before, or too old.
        """
        try:
            claims = dict(jwt.decode(sealed, self._key, algorithms=["HS256"]).claims)
            expires = claims.pop("exp")
            attempt = Attempt(**claims)
        except (JoseError, ValueError, KeyError, TypeError):
            raise _expired() from None
        if not hmac.compare_digest(attempt.state.encode(), state.encode()) or self._now() >= expires:
            raise _expired()
        return attempt


def key_id(token: str) -> str | None:
    """The key that an ID token says it is signed with; raises FirstRayError ``oidc_failed`` where it is no token."""
    try:
        kid = jws.extract_compact(token.encode()).headers().get("kid")
    except (JoseError, ValueError):
        raise not_believed("the ID token cannot be read") from None
    return kid if isinstance(kid, str) else None


def verified(token: str, keys: KeySet, issuer: str, client: str, nonce: str, now: float) -> Identity:
    """Whom an ID token names, once everything of Core 1.0, 3.1.3.7 holds.

    Args:
        token: as the provider's token endpoint gave it.
        keys: public keys of the provider.
        issuer: the provider; client: who we are there; nonce: of the log-in.
        now: seconds since 1970 UTC.

    Raises:
        FirstRayError: ``oidc_failed``; the log says what is wrong.
    """
    registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    try:
        claims = jwt.decode(token, keys, algorithms=ALGORITHMS, registry=registry).claims
    except (JoseError, ValueError, TypeError) as error:
        raise not_believed(f"the ID token's signature does not hold ({type(error).__name__})") from None
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    party = claims.get("azp")
    given = claims.get("nonce")
    if claims.get("iss") != issuer:
        raise not_believed("the ID token is another issuer's")
    if client not in audiences or party not in (None, client) or (len(audiences) > 1 and party is None):
        raise not_believed("the ID token is for another client")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise not_believed("the ID token is of another log-in (nonce)")
    if not _in_time(claims, now):
        raise not_believed("the ID token has expired or is of the future: compare the clocks")
    subject = claims.get("sub")
    proper = isinstance(subject, str) and 0 < len(subject.strip()) == len(subject) <= LONGEST_SUBJECT
    if not isinstance(subject, str) or not proper or not subject.isprintable():
        raise not_believed("the ID token has no proper subject")
    return Identity(subject, _names(claims))


def not_believed(reason: str) -> FirstRayError:
    """``oidc_failed``; the reason goes to the log, for it is IT's to mend and may help who attacks."""
    _log.warning("a log-in by OpenID Connect was refused: %s", reason)
    return FirstRayError(
        "oidc_failed",
        "The log-in service's answer could not be trusted, so nobody was logged in.",
        "Start again, or log in with a password. If it happens again, tell the hospital's IT: the log says why.",
    )


def plain_code(code: object) -> str:
    """An error's code for the log: whatever is no code of RFC 6749 by its looks is not repeated."""
    plain = isinstance(code, str) and 0 < len(code) <= 40 and code.isascii() and code.replace("_", "").isalnum()
    return str(code) if plain else "an error without code"


def _in_time(claims: dict[str, Any], now: float) -> bool:
    expires, issued, begins = claims.get("exp"), claims.get("iat"), claims.get("nbf", now)
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in (expires, issued, begins)):
        return False
    return bool(now < expires + LEEWAY_SECONDS and max(issued, begins) <= now + LEEWAY_SECONDS)  # type: ignore[operator]


def _names(claims: dict[str, Any]) -> frozenset[str]:
    """User name; e-mail only where the provider has verified it, for else anybody could claim anybody's."""
    names = [claims.get("preferred_username"), claims.get("email") if claims.get("email_verified") is True else None]
    proper = [name.strip().lower() for name in names if isinstance(name, str) and name.isprintable()]
    return frozenset(name for name in proper if name)


def _expired() -> FirstRayError:
    return FirstRayError(
        "oidc_expired",
        "This log-in was begun too long ago or in another window, or it is finished already.",
        "Start again from this page.",
    )
