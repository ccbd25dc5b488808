"""The hospital's OpenID provider as we speak to it: its description, its keys, and a code against an ID token.

Its certificate is checked against the authorities this machine trusts; redirects are not followed, answers are bounded.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet
from pydantic import BaseModel, Field, ValidationError, field_validator

from shared.errors import FirstRayError
from sync_server.domain.oidc import Attempt, Identity, key_id, not_believed, plain_code, verified
from sync_server.settings import is_safe_url

FRESH_S: Final = 3600.0
"""So long description and keys are believed without asking again."""
AGAIN_S: Final = 5.0
"""After a failure, or for a key that is not known yet, the provider is asked again only after this."""
TIMEOUT_S: Final = 5.0
MOST_BYTES: Final = 256 << 10
SCOPE: Final = "openid profile email"
_ACCEPTED: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}
_log = logging.getLogger(__name__)


class Metadata(BaseModel):
    """What a provider says of itself (OpenID Connect Discovery 1.0, 3; RFC 9207, 3), as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: list[str] = Field(default=["client_secret_basic"])
    authorization_response_iss_parameter_supported: bool = False

    @field_validator("authorization_endpoint", "token_endpoint", "jwks_uri")
    @classmethod
    def _safe(cls, url: str) -> str:
        if not is_safe_url(url.partition("?")[0]):
            raise ValueError("not an https address")
        return url


class Provider:
    """One provider, asked only when somebody logs in. Safe to use from several threads.

    Args:
        issuer: its exact name.
        client: who we are there; secret: proves it.
        redirect: where people come back to.
        now: seconds since 1970 UTC.
    """

    def __init__(
        self, issuer: str, client: str, secret: str, redirect: str, now: Callable[[], float] = time.time
    ) -> None:
        self._issuer, self._client, self._secret, self._redirect = issuer, client, secret, redirect
        self._now = now
        self._lock = threading.Lock()
        self._tls = ssl.create_default_context()
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._failed_at = float("-inf")

    def authorization_url(self, attempt: Attempt) -> str:
        """Where the browser goes to log in (Core 1.0, 3.1.2.1).

        Raises:
            FirstRayError: ``oidc_unreachable``.
        """
        with self._lock:
            endpoint = self._described().authorization_endpoint
        asked = {
            "response_type": "code",
            "scope": SCOPE,
            "client_id": self._client,
            "redirect_uri": self._redirect,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    def identity(self, code: str, attempt: Attempt, issuer: str | None = None) -> Identity:
        """Whom the provider names for a code.

        Args:
            code: that the browser brought back.
            attempt: the log-in it belongs to.
            issuer: ``iss`` that the browser brought back, if any (RFC 9207).

        Raises:
            FirstRayError: ``oidc_unreachable``, or ``oidc_failed`` (the log says why).
        """
        with self._lock:
            metadata = self._described()
        if issuer is None and metadata.authorization_response_iss_parameter_supported:
            raise not_believed("the answer does not say which provider it is from (RFC 9207)")
        if issuer not in (None, self._issuer):
            raise not_believed("the answer is from another provider (RFC 9207)")
        token = self._exchange(metadata, code, attempt)
        keys = self._keys_with(metadata, key_id(token))
        return verified(token, keys, self._issuer, self._client, attempt.nonce, self._now())

    def _described(self) -> Metadata:
        """Discovery 1.0, 4: the description, which must name the very issuer (4.3). Called with the lock held."""
        if self._metadata is not None and self._now() - self._metadata[0] < FRESH_S:
            return self._metadata[1]
        if self._now() - self._failed_at < AGAIN_S:
            raise _unreachable("it failed a moment ago")
        try:
            answer = self._ask("GET", self._issuer.rstrip("/") + "/.well-known/openid-configuration")
            metadata = Metadata.model_validate(_object(answer))
            if metadata.issuer != self._issuer:
                raise _unreachable("it calls itself another issuer than FIRSTRAY_SERVER_OIDC_ISSUER says")
        except ValidationError as error:
            self._failed_at = self._now()
            fields = ", ".join(str(one["loc"][0]) for one in error.errors())
            raise _unreachable(f"its description is wrong: {fields}") from None
        except FirstRayError:
            self._failed_at = self._now()
            raise
        self._metadata = (self._now(), metadata)
        return metadata

    def _keys_with(self, metadata: Metadata, kid: str | None) -> KeySet:
        """Its keys, asked for anew where they are old, or lack the key (Core 1.0, 10.1.1: keys are exchanged)."""
        with self._lock:
            if self._keys is not None:
                age = self._now() - self._keys[0]
                if age < FRESH_S and (age < AGAIN_S or kid is None or any(key.kid == kid for key in self._keys[1])):
                    return self._keys[1]
            held = _object(self._ask("GET", metadata.jwks_uri)).get("keys")
            keys = [key for key in map(_key, held if isinstance(held, list) else []) if key is not None]
            self._keys = (self._now(), KeySet(keys))
            return self._keys[1]

    def _exchange(self, metadata: Metadata, code: str, attempt: Attempt) -> str:
        """The ID token for a code (Core 1.0, 3.1.3)."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": attempt.verifier,
        }
        methods = metadata.token_endpoint_auth_methods_supported
        basic = "client_secret_basic" in methods or "client_secret_post" not in methods
        if basic:  # RFC 6749, 2.3.1: both are encoded first
            answer = self._ask(
                "POST",
                metadata.token_endpoint,
                form,
                httpx.BasicAuth(quote_plus(self._client), quote_plus(self._secret)),
            )
        else:
            answer = self._ask(
                "POST", metadata.token_endpoint, form | {"client_id": self._client, "client_secret": self._secret}
            )
        token = _object(answer).get("id_token")
        if not isinstance(token, str):
            raise not_believed("the provider gave no ID token")
        return token

    def _ask(
        self, method: str, url: str, form: dict[str, str] | None = None, auth: httpx.BasicAuth | None = None
    ) -> bytes:
        """The body of a 200; of a refused code what RFC 6749, 5.2 calls it goes to the log."""
        end = time.monotonic() + 2 * TIMEOUT_S
        body = b""
        try:
            with (
                httpx.Client(verify=self._tls, timeout=TIMEOUT_S, follow_redirects=False, headers=_ACCEPTED) as client,
                client.stream(method, url, data=form, auth=auth) as answer,
            ):
                for part in answer.iter_raw(4096):
                    body += part
                    if len(body) > MOST_BYTES or time.monotonic() > end:
                        raise _unreachable("its answer is too long or too slow")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(type(error).__name__) from None
        if answer.status_code in (400, 401) and form is not None:
            raise not_believed(f"the provider refused the code: {_error_code(body)}")
        if answer.status_code != httpx.codes.OK:
            raise _unreachable(f"status {answer.status_code}")
        return body


def _error_code(body: bytes) -> str:
    try:
        return plain_code(_object(body).get("error"))
    except FirstRayError:
        return plain_code(None)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _unreachable("its answer is no JSON object")
    return found


def _key(data: object) -> Key | None:
    """A public key for signatures; None for any other (RFC 7517, 5: what is not understood is passed over)."""
    if not isinstance(data, dict) or data.get("kty") not in ("RSA", "EC") or data.get("use", "sig") != "sig":
        return None
    try:
        return JWKRegistry.import_key(data)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _unreachable(reason: str) -> FirstRayError:
    _log.warning("the OpenID provider cannot be used: %s", reason)
    return FirstRayError(
        "oidc_unreachable",
        "The log-in service does not answer properly.",
        "Log in with a password, or try again in a minute. If it stays so, tell the hospital's IT.",
    )
