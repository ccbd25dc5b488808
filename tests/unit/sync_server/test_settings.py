"""Unsafe and senseless settings are refused at start."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from shared.errors import FirstRayError
from sync_server.settings import Settings, load_settings


def code(**given: Any) -> str:
    with pytest.raises(FirstRayError) as caught:
        load_settings(**given)
    assert caught.value.action
    return caught.value.code


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Path]:
    files = {"certificate": tmp_path / "c.pem", "key": tmp_path / "k.pem"}
    for file in files.values():
        file.write_text("x")
        file.chmod(0o600)
    return files


def test_by_default_all_is_in_one_folder_on_this_machine(tmp_path: Path) -> None:
    settings = load_settings(data=tmp_path)
    assert settings.database == f"sqlite:///{tmp_path}/hospital.db"
    assert settings.images == str(tmp_path / "images")
    assert (settings.host, settings.port, settings.public_url) == ("127.0.0.1", 8000, "http://127.0.0.1:8000")
    assert not settings.secure


def test_with_a_certificate(tls: dict[str, Path]) -> None:
    settings = load_settings(host="0.0.0.0", public_url="https://er.example.org:8443", **tls)
    assert (settings.port, settings.tls, settings.secure) == (8443, True, True)


def test_the_environment_counts_and_what_is_given_goes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTRAY_SERVER_PORT", "9000")
    monkeypatch.setenv("FIRSTRAY_SERVER_PURGE_DAYS", "7")
    assert (load_settings().port, load_settings().purge_days) == (9000, 7)
    assert load_settings(port=9001).port == 9001


def test_plain_http_leaves_the_machine_only_behind_a_proxy() -> None:
    assert code(host="0.0.0.0") == "settings_unsafe"
    assert code(host="192.0.2.1") == "settings_unsafe"
    assert code(host="0.0.0.0", behind_proxy=True) == "settings_unsafe"
    assert code(host="0.0.0.0", behind_proxy=True, public_url="http://er.example.org") == "settings_unsafe"
    assert load_settings(host="0.0.0.0", behind_proxy=True, public_url="https://er.example.org").secure


@pytest.mark.parametrize(
    "given",
    [
        {"public_url": "ftp://x"},
        {"public_url": "https://user@x"},
        {"public_url": "https://x/path"},
        {"public_url": "https://x?y"},
        {"public_url": "x"},
        {"public_url": "https://x:99999"},
        {"database": "mysql://x/y"},
        {"database": "sqlite://"},
        {"database": "sqlite:///:memory:"},
        {"database": "nonsense"},
        {"database": "postgresql://user:secret@db.example.org/firstray"},
        {"behind_proxy": True, "public_url": "https://x", "trusted_proxies": "*"},
        {"oidc_issuer": "https://id.example.org"},
        *(
            {"oidc_issuer": issuer, "oidc_client_id": "a", "oidc_client_secret": "b"}
            for issuer in (
                "http://id.example.org",
                "https://id.example.org/?x=1",
                "https://id.example.org/#x",
                "https://user@id.example.org",
                "https://id.example.org:x",
                "https://",
                "id.example.org",
                "https://id.example.org/a b",
            )
        ),
        {"metrics_token": "short"},
    ],
)
def test_what_would_be_unsafe_is_refused(given: dict[str, Any]) -> None:
    assert code(**given) == "settings_unsafe"


@pytest.mark.parametrize(
    "given", [{"purge_days": 0}, {"port": 70000}, {"language": "fr"}, {"no_such": 1}, {"port": "x"}]
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    assert code(**given) == "settings_invalid"


def test_a_provider_for_the_log_in() -> None:
    client = {"oidc_client_id": "a", "oidc_client_secret": "b"}
    settings = load_settings(
        oidc_issuer="https://id.example.org/realms/er", public_url="https://er.example.org/", **client
    )
    assert settings.oidc_redirect == "https://er.example.org/login/oidc/callback"
    assert settings.oidc_provider == "id.example.org"
    assert load_settings(oidc_issuer="http://127.0.0.1:9400", oidc_name="Hospital ID", **client).oidc_provider == (
        "Hospital ID"
    )
    without = load_settings()
    assert (without.oidc, without.oidc_provider) == (False, "")


def test_a_database_elsewhere_says_how_it_is_protected() -> None:
    url = "postgresql://u:p@db.example.org/f?sslmode=verify-full"
    assert load_settings(database=url).database_url.drivername == "postgresql+psycopg"
    assert (
        load_settings(database="postgresql:///f?host=/run/postgresql").database_url.drivername == "postgresql+psycopg"
    )


def test_certificate_and_key_come_together_and_the_key_is_private(tls: dict[str, Path], tmp_path: Path) -> None:
    url = {"public_url": "https://x"}
    assert code(certificate=tls["certificate"], **url) == "settings_unsafe"
    assert code(key=tls["key"], **url) == "settings_unsafe"
    assert code(certificate=tmp_path / "none", key=tls["key"], **url) == "settings_unsafe"
    tls["key"].chmod(0o604)
    assert code(**tls, **url) == "settings_unsafe"


def test_messages_do_not_repeat_secrets() -> None:
    with pytest.raises(FirstRayError) as caught:
        load_settings(metrics_token="sesame", purge_days="sesame")
    assert "sesame" not in str(caught.value)


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    first, again = load_settings(data=tmp_path), load_settings(data=tmp_path)
    assert len(first.secret) == 32
    assert first.secret == again.secret
    assert first.receipt_key.private_bytes_raw() == again.receipt_key.private_bytes_raw()
    assert first.secret != first.receipt_key.private_bytes_raw()
    for name in ("secret.key", "receipt.key"):
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["receipt.key", "secret.key"]


def test_secrets_that_others_can_read_or_that_are_damaged_are_refused(tmp_path: Path) -> None:
    assert load_settings(data=tmp_path).secret
    file = tmp_path / "secret.key"
    file.chmod(0o644)
    with pytest.raises(FirstRayError) as caught:
        _ = load_settings(data=tmp_path).secret
    assert caught.value.code == "key_unsafe"
    file.chmod(0o600)
    file.write_bytes(b"short")
    with pytest.raises(FirstRayError) as caught:
        _ = load_settings(data=tmp_path).secret
    assert caught.value.code == "key_damaged"


def test_settings_do_not_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().port = 1
