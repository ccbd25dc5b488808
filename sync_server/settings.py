"""What the hospital's server is told: environment variables ``FIRSTRAY_SERVER_...`` and the command line.

Unsafe or senseless values are refused at start, before anything is opened. Secrets are no settings: the server makes
them at its first start in its data folder, readable by its own user only.
"""

from __future__ import annotations

import ipaddress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from shared.errors import FirstRayError
from sync_server.keys import load_receipt_key, load_secret

PORT: Final = 8000
TLS_PORT: Final = 8443
_AT_HOME: Final = ("", "localhost")


class Settings(BaseSettings):
    """All settings, checked; raises ``settings_unsafe`` or ``settings_invalid`` (:func:`load_settings`).

    Attributes:
        data: folder of everything the server keeps itself: keys, uploads under way, and by default database and images.
        database: SQLAlchemy URL, SQLite or PostgreSQL (psycopg 3).
        images: fsspec URL or folder of the images.
        public_url: where devices and browsers find the server, ``https://host[:port]``.
        host, port: where it listens; 8443 with a certificate, 8000 without.
        certificate, key: PEM files for TLS.
        ca: PEM file of the authority that devices are to trust; None means the last certificate of ``certificate``.
        behind_proxy: a proxy in front ends TLS; its addresses are ``trusted_proxies`` (addresses or networks, commas).
        release: folder of the model release for re-inference; None means the newest that is installed or uploaded.
        purge_days: what was deleted is gone for good after so many days, 1..3650.
        metrics_token: shown by who reads ``/metrics`` from another machine; None allows it to this machine only.
        oidc_issuer, oidc_client_id, oidc_client_secret: OpenID Connect log-in; all or none. The issuer exactly as the
            provider writes it, by https (http on this machine only); its redirect URI is :attr:`oidc_redirect`.
        oidc_name: what the log-in page calls the provider; by default the issuer's host.
        language: of pages before anybody has logged in.
        hospital_name: shown to devices and on pages.
        log_level: of the log on standard error.
    """

    model_config = SettingsConfigDict(env_prefix="FIRSTRAY_SERVER_", extra="forbid", frozen=True)

    data: Path = Path("hospital")
    database: str = ""
    images: str = ""
    public_url: str = ""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    behind_proxy: bool = False
    trusted_proxies: str = "127.0.0.1,::1"
    release: Path | None = None
    purge_days: Annotated[int, Field(ge=1, le=3650)] = 30
    metrics_token: str | None = None
    oidc_issuer: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: str | None = None
    oidc_name: Annotated[str, Field(max_length=40)] = ""
    language: Literal["ko", "en"] = "ko"
    hospital_name: str = "FirstRay"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Defaults that follow from other settings."""
        data = Path(values.get("data") or "hospital").absolute()
        values = {**values, "data": data}
        values["database"] = values.get("database") or f"sqlite:///{data / 'hospital.db'}"
        values["images"] = values.get("images") or str(data / "images")
        tls = values.get("certificate")
        if values.get("port") is None:
            values["port"] = TLS_PORT if tls else PORT
        if not values.get("public_url") and not values.get("behind_proxy"):
            host = str(values.get("host") or "127.0.0.1")
            host = f"[{host}]" if ":" in host else host
            values["public_url"] = f"{'https' if tls else 'http'}://{host}:{values['port']}"
        return values

    @model_validator(mode="after")
    def _safe(self) -> Self:
        """Refuse what would endanger patients' data."""
        self._check_tls()
        self._check_public_url()
        self._check_database()
        if self.behind_proxy and "*" in self.trusted_proxies:
            raise _unsafe(
                "FIRSTRAY_SERVER_TRUSTED_PROXIES trusts every address: anybody could claim to come from another one.",
                "Name the addresses of the proxy.",
            )
        self._check_oidc()
        if self.metrics_token is not None and len(self.metrics_token) < 16:
            raise _unsafe("FIRSTRAY_SERVER_METRICS_TOKEN is too short to be secret.", "Use 16 characters or more.")
        return self

    def _check_tls(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise _unsafe("There is a certificate without its key, or a key without its certificate.", "Give both.")
        for name, file in (("certificate", self.certificate), ("key", self.key), ("CA file", self.ca)):
            if file is not None and not file.is_file():
                raise _unsafe(f"The {name} {file} does not exist.", "Check its path.")
        if self.key is not None and self.key.stat().st_mode & 0o007:
            raise _unsafe(f"Every user of this machine can read the key {self.key}.", f"chmod 600 {self.key}")
        if self.certificate is None and not self.behind_proxy and not is_loopback(self.host):
            raise _unsafe(
                f"The server would send patients' data unprotected from {self.host}.",
                "Give a certificate and its key, or set FIRSTRAY_SERVER_BEHIND_PROXY=true where a proxy ends TLS.",
            )

    def _check_public_url(self) -> None:
        try:
            parts = urlsplit(self.public_url)
            host = parts.hostname or ""
            port_is_right = parts.port is None or parts.port >= 0
        except ValueError:
            host, port_is_right = "", False
        extras = host and (parts.query or parts.fragment or parts.username or parts.path not in ("", "/"))
        if not host or not port_is_right or extras or parts.scheme not in ("http", "https"):
            raise _unsafe(
                "FIRSTRAY_SERVER_PUBLIC_URL does not say where devices and browsers find the server.",
                "Set it to https://host or https://host:port.",
            )
        if parts.scheme == "http" and not is_loopback(host):
            raise _unsafe("FIRSTRAY_SERVER_PUBLIC_URL would send patients' data unprotected.", "Make it https.")

    def _check_database(self) -> None:
        url = self.database_url
        kind = url.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise _unsafe(f"{kind} is no database that FirstRay knows.", "Use SQLite or PostgreSQL.")
        if kind == "sqlite" and url.database in (None, "", ":memory:"):
            raise _unsafe("A database in memory would forget every patient.", "Name a file.")
        host = str(url.query.get("host") or url.host or "")
        if kind == "postgresql" and not (is_loopback(host) or host.startswith("/")) and "sslmode" not in url.query:
            raise _unsafe(
                "Patients' data might travel unprotected between server and database.",
                "Add ?sslmode=verify-full&sslrootcert=FILE to FIRSTRAY_SERVER_DATABASE.",
            )

    def _check_oidc(self) -> None:
        given = [value for value in (self.oidc_issuer, self.oidc_client_id, self.oidc_client_secret) if value]
        if given and len(given) < 3:
            raise _unsafe(
                "OpenID Connect is set up by half.",
                "Give FIRSTRAY_SERVER_OIDC_ISSUER, _CLIENT_ID and _CLIENT_SECRET, or none of them.",
            )
        if self.oidc_issuer and not is_safe_url(self.oidc_issuer):
            raise _unsafe(
                "The OpenID Connect issuer is not reached by https, or is no address of a provider.",
                "Set FIRSTRAY_SERVER_OIDC_ISSUER to https://host/path, exactly as the provider names itself.",
            )

    @property
    def oidc(self) -> bool:
        """People may log in through an OpenID provider."""
        return bool(self.oidc_issuer)

    @property
    def oidc_provider(self) -> str:
        """What the log-in page calls the provider; empty where there is none."""
        return self.oidc_name or urlsplit(self.oidc_issuer or "").hostname or ""

    @property
    def oidc_redirect(self) -> str:
        """Where the provider sends people back to: to be registered there."""
        return self.public_url.rstrip("/") + "/login/oidc/callback"

    @property
    def database_url(self) -> URL:
        """The database's URL with its driver; raises ``settings_unsafe`` where it is none."""
        try:
            url = make_url(self.database)
        except ArgumentError:
            raise _unsafe("FIRSTRAY_SERVER_DATABASE is not a database URL.", "See docs/operations.md.") from None
        return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url

    @property
    def tls(self) -> bool:
        """The server itself speaks TLS."""
        return self.certificate is not None

    @property
    def secure(self) -> bool:
        """Browsers come by https."""
        return self.public_url.startswith("https://")

    @cached_property
    def secret(self) -> bytes:
        """32 random bytes of this hospital, made at the first start: signs tokens and cookies."""
        return load_secret(self.data / "secret.key")

    @cached_property
    def receipt_key(self) -> Ed25519PrivateKey:
        """Signs receipts; devices know its public half."""
        return load_receipt_key(self.data / "receipt.key")


def load_settings(**given: Any) -> Settings:
    """Settings from the environment; what is given and not None goes before.

    Raises:
        FirstRayError: ``settings_invalid`` (names each wrong setting) or ``settings_unsafe``.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as problem:
        wrong = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in problem.errors())
        raise FirstRayError(
            "settings_invalid", f"The server's settings are wrong: {wrong}.", "Correct them and start again."
        ) from None


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is that of this machine."""
    if host in _AT_HOME:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_safe_url(url: str) -> bool:
    """Whether an address is https, or http on this machine, and has neither user, query nor fragment."""
    try:
        parts = urlsplit(url)
        host, port_is_right = parts.hostname or "", parts.port is None or parts.port >= 0
    except ValueError:
        return False
    extras = parts.query or parts.fragment or parts.username or not url.isascii() or not url.isprintable() or " " in url
    schemes = ("https", "http") if host and is_loopback(host) else ("https",)
    return bool(host and port_is_right and not extras and parts.scheme in schemes)


def _unsafe(message: str, action: str) -> FirstRayError:
    return FirstRayError("settings_unsafe", message, action)
