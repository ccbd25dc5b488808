"""A model release: a folder with a manifest, model files, a model card and a signature.

``manifest.json`` names every other file with its SHA-256; ``manifest.sig`` is the Ed25519 signature (RFC 8032) of the
manifest's exact bytes. A release is trusted if one of the public keys in ``shared/trusted_keys`` (or in the folder
named by ``FIRSTRAY_TRUSTED_KEYS``) verifies it. Nothing of a release is used before all of it is verified.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.calibration import Calibration
from shared.errors import ReleaseError
from shared.familiarity import Familiarity
from shared.findings import KEYS
from shared.quality import GateSpec

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
CARD = "MODEL_CARD.md"
RELEASE_VARIABLE = "FIRSTRAY_RELEASE"
TRUSTED_KEYS_VARIABLE = "FIRSTRAY_TRUSTED_KEYS"

Precision = Literal["int8", "fp16", "fp32"]
RuntimeName = Literal["litert", "onnx"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Strict):
    """One file of the release: SHA-256 in lower-case hexadecimal, and its size in bytes."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class InputSpec(_Strict):
    """What a network takes: one grey square of ``side`` pixels, made by :func:`shared.preprocess.model_image`."""

    side: int = Field(ge=32, le=2048)
    channels: Literal[1] = 1
    values: Literal["0..1"] = "0..1"


class Variant(_Strict):
    """One precision of the models for one runtime, with the calibration measured on it.

    ``classifier``, ``detector`` and ``gate`` name files of the manifest. Without ``familiarity`` no
    radiograph is called unfamiliar.
    """

    precision: Precision
    runtime: RuntimeName
    classifier: str
    detector: str
    gate: str
    calibration: Calibration
    familiarity: Familiarity | None = None

    @property
    def id(self) -> str:
        """For example ``int8-litert``."""
        return f"{self.precision}-{self.runtime}"


class Manifest(_Strict):
    """The contents of ``manifest.json``.

    Attributes:
        format: version of this schema.
        id: release id, also the folder's name.
        created: RFC 3339 time in UTC.
        findings: order of the classes in every model file; exactly the vocabulary.
        inputs: input of ``classifier`` and ``detector``.
        gate: input side and thresholds of the quality gate.
        located_by: for each finding, what draws its place: the detector or the classifier's activation map.
        variants: at least one; ``int8`` for the edge, ``fp16`` and ``fp32`` for the server.
        files: every file of the folder except manifest and signature.
        training_data_sha256: hash over the label tables and image names the models were trained on.
        code_revision: commit of the code that trained and converted.
        metrics: figures with population and interval, as in the model card.
    """

    format: Literal[1] = 1
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    created: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    findings: tuple[str, ...]
    inputs: dict[Literal["classifier", "detector"], InputSpec]
    gate: GateSpec
    located_by: dict[str, Literal["detector", "activation"]]
    variants: tuple[Variant, ...] = Field(min_length=1)
    files: dict[str, FileEntry]
    training_data_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    code_revision: str
    metrics: dict[str, Any]

    @field_validator("findings")
    @classmethod
    def _vocabulary(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        if findings != KEYS:
            raise ValueError("findings must be exactly the 13 keys of the vocabulary, in order")
        return findings

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            if name != Path(name).name or name.startswith(".") or name in (MANIFEST, SIGNATURE):
                raise ValueError(f"{name!r} is not a plain file name")
        return files

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        for variant in self.variants:
            for name in (variant.classifier, variant.detector, variant.gate):
                if name not in self.files:
                    raise ValueError(f"variant {variant.id} names {name}, which is not in files")
        if CARD not in self.files:
            raise ValueError(f"files must list {CARD}")
        if set(self.inputs) != {"classifier", "detector"}:
            raise ValueError("inputs must describe classifier and detector")
        if set(self.located_by) != set(KEYS):
            raise ValueError("located_by must list the 13 findings")
        return self


@dataclass(frozen=True)
class Release:
    """A release whose every byte has been verified."""

    folder: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """The release id."""
        return self.manifest.id

    def path(self, name: str) -> Path:
        """Path of one of the manifest's files."""
        return self.folder / name


def default_release() -> Path:
    """Folder of the release in use: ``FIRSTRAY_RELEASE``, or the one that ``weights/CURRENT`` names.

    ``weights`` lies beside the source folders in a checkout, in ``share/firstray`` in an installation.

    Raises:
        ReleaseError: ``release_missing``.
    """
    named = os.environ.get(RELEASE_VARIABLE)
    if named:
        return Path(named)
    for weights in (Path(__file__).parents[1] / "weights", Path(sys.prefix) / "share" / "firstray" / "weights"):
        pointer = weights / "CURRENT"
        if pointer.is_file():
            return weights / pointer.read_text().strip()
    raise ReleaseError(
        "release_missing",
        "No model release is installed.",
        f"Give one with --release DIR, or set {RELEASE_VARIABLE}.",
    )


def load_release(folder: Path) -> Release:
    """Verify a release and open it.

    Raises:
        ReleaseError: ``release_missing``, ``release_unsigned``, ``release_signature_invalid``,
            ``release_manifest_invalid``, ``release_file_missing``, ``release_file_altered`` (names the file) or
            ``release_file_unlisted``.
    """
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise ReleaseError(
            "release_missing", f"{folder} holds no {MANIFEST}, so it is not a model release.", "Check the path."
        )
    content = manifest_path.read_bytes()
    _verify_signature(folder, content)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReleaseError(
            "release_manifest_invalid",
            f"{manifest_path} does not follow the release schema: {where}: {first['msg']}.",
            "Install a release made for this version of FirstRay.",
        ) from None
    for name, entry in manifest.files.items():
        _verify_file(folder / name, entry)
    unlisted = {path.name for path in folder.iterdir()} - set(manifest.files) - {MANIFEST, SIGNATURE}
    if unlisted:
        raise ReleaseError(
            "release_file_unlisted",
            f"{folder} holds {sorted(unlisted)[0]}, which the manifest does not list.",
            "Remove it, or install the release again.",
        )
    return Release(folder, manifest)


def file_entry(path: Path) -> FileEntry:
    """Hash a file for a manifest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(sha256=digest, bytes=path.stat().st_size)


def write_manifest(folder: Path, manifest: Manifest, key: Ed25519PrivateKey) -> None:
    """Write and sign ``manifest.json``."""
    content = (json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()
    (folder / MANIFEST).write_bytes(content)
    (folder / SIGNATURE).write_bytes(key.sign(content))


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a signing key (PEM, PKCS #8).

    Raises:
        ReleaseError: ``signing_key_invalid``.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ReleaseError(
            "signing_key_invalid", f"{path} cannot be read as a signing key: {error}.", "Run 'firstray release keygen'."
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError("signing_key_invalid", f"{path} is not an Ed25519 key.", "Run 'firstray release keygen'.")
    return key


def make_key(private: Path, public: Path) -> None:
    """Make a signing key pair; the private file is readable by its owner only.

    Raises:
        ReleaseError: ``signing_key_exists``: an existing key is never overwritten.
    """
    for path in (private, public):
        if path.exists():
            raise ReleaseError("signing_key_exists", f"{path} is there already.", "Choose another name.")
    key = Ed25519PrivateKey.generate()
    private.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.parent.mkdir(parents=True, exist_ok=True)
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def trusted_keys() -> list[Ed25519PublicKey]:
    """The public keys whose releases are accepted."""
    folder = Path(os.environ.get(TRUSTED_KEYS_VARIABLE) or Path(__file__).parent / "trusted_keys")
    keys = [load_pem_public_key(path.read_bytes()) for path in sorted(folder.glob("*.pem"))]
    return [key for key in keys if isinstance(key, Ed25519PublicKey)]


def _verify_signature(folder: Path, content: bytes) -> None:
    path = folder / SIGNATURE
    if not path.is_file():
        raise ReleaseError(
            "release_unsigned", f"{folder} has no {SIGNATURE}.", "Install a signed release; never use an unsigned one."
        )
    signature = path.read_bytes()
    for key in trusted_keys():
        try:
            key.verify(signature, content)
        except InvalidSignature:
            continue
        return
    raise ReleaseError(
        "release_signature_invalid",
        f"No trusted key signed {folder / MANIFEST} as it stands: the file was altered or comes from someone else.",
        "Install the release again from a source you trust.",
    )


def _verify_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise ReleaseError("release_file_missing", f"{path} is missing.", "Install the release again.")
    if file_entry(path) != entry:
        raise ReleaseError(
            "release_file_altered",
            f"{path} is not the file that was released (size or SHA-256 differs).",
            "Install the release again; do not use this one.",
        )
