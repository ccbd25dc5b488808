"""An OpenID provider that keeps to the standard, checks what it is sent (PKCE too), and lies where a test says so."""

import base64
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any
from urllib.parse import unquote_plus, urlencode

import uvicorn
from fastapi import FastAPI, Form, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from joserfc import jwt
from joserfc.jwk import Key, RSAKey

CLIENT, SECRET = "firstray", "a secret with : and %"


def signing_key(kid: str = "one") -> RSAKey:
    """A key for signatures."""
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


@cache
def _first_key() -> RSAKey:
    return signing_key()


@dataclass
class OpenId:
    """What the provider does; change it between two log-ins.

    Attributes:
        person: claims of who is logged in there; None where they cancel.
        lies: changes the claims of an ID token just before it is signed.
        key: signs; published: is shown; alg: of the signature.
        answers: path -> answer given instead of the right one.
        asked: paths in the order they were asked.
    """

    issuer: str
    person: dict[str, Any] | None = field(default_factory=lambda: {"sub": "4711", "preferred_username": "Seoyeon.Lee"})
    lies: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    key: Key = field(default_factory=_first_key)
    published: list[Any] = field(default_factory=list)
    alg: str = "RS256"
    description: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Response] = field(default_factory=dict)
    names_itself: bool = True
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """Its description."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?realm=hospital",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_response_iss_parameter_supported": self.names_itself,
            **self.description,
        }

    def keys(self) -> dict[str, Any]:
        """Its keys, among others that are not for us."""
        odd = [{"kty": "ML-DSA", "kid": "future"}, {"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "kid": "broken"}]
        return {"keys": [*odd, *self.published, self.key.as_dict(private=False)]}

    def back(self, asked: dict[str, str]) -> str:
        """Where the browser goes after the log-in there."""
        assert asked["realm"] == "hospital"
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        answer = {"state": asked["state"]} | ({"iss": self.issuer} if self.names_itself else {})
        if self.person is None:
            return f"{asked['redirect_uri']}?{urlencode(answer | {'error': 'access_denied'})}"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode(answer | {'code': code})}"

    def token(self, code: str, verifier: str, redirect: str) -> str | None:
        """An ID token for a code, once; None where code, verifier or address do not fit together."""
        asked = self.codes.pop(code, None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if asked is None or challenge != asked["code_challenge"] or redirect != asked["redirect_uri"]:
            return None
        assert self.person is not None
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims = self.lies(claims | self.person)
        return jwt.encode({"alg": self.alg, "kid": self.key.kid}, claims, self.key, algorithms=[self.alg])


def _app(provider: OpenId) -> FastAPI:
    app = FastAPI()
    basic = HTTPBasic(auto_error=False)

    @app.middleware("http")
    async def told(request: Request, call_next: Callable[[Request], Any]) -> Response:
        provider.asked.append(request.url.path)
        return provider.answers.get(request.url.path) or await call_next(request)

    @app.get("/.well-known/openid-configuration")
    def described() -> dict[str, Any]:
        return provider.described()

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        return provider.keys()

    @app.get("/authorize")
    def authorize(request: Request) -> Response:
        return RedirectResponse(provider.back(dict(request.query_params)), 302)

    @app.post("/token")
    async def token(request: Request, code: Annotated[str, Form()], redirect_uri: Annotated[str, Form()]) -> Response:
        form = await request.form()
        held: HTTPBasicCredentials | None = await basic(request)
        pair = (unquote_plus(held.username), unquote_plus(held.password)) if held else None
        if (pair or (form.get("client_id"), form.get("client_secret"))) != (CLIENT, SECRET):
            return JSONResponse({"error": "invalid_client"}, 401)
        given = provider.token(code, str(form["code_verifier"]), redirect_uri)
        if given is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse({"access_token": "opaque", "token_type": "Bearer", "id_token": given})

    return app


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


@contextmanager
def open_id() -> Iterator[OpenId]:
    """The provider, listening."""
    port = free_port()
    provider = OpenId(f"http://127.0.0.1:{port}")
    config = uvicorn.Config(_app(provider), "127.0.0.1", port, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="provider", daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < until, "the provider did not start"
        time.sleep(0.02)
    try:
        yield provider
    finally:
        server.should_exit = True
        thread.join(10)
