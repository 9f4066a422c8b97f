"""Sealed originals: AES-256-GCM, bound to the appeal's id, under keys from a file.

The file holds one key a line, 32 bytes in base64: the first seals, all of them open. To rotate, put a
new line first, run `python -m serving originals rotate`, then delete the old line.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from data.originals import Sealed
from serving.errors import OriginalSealed, StartError

__all__ = ["Sealer", "make_key_file", "read_secret"]

KEY_BYTES = 32
NONCE_BYTES = 12
MADE_FOR = "jiesu original\n"


class Sealer:
    """Seals and opens originals; `key_id` is that of the key that seals."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys: Mapping[str, AESGCM] = {_key_id(key): AESGCM(key) for key in keys}
        self.key_id = _key_id(keys[0])

    @classmethod
    def read(cls, path: Path) -> Sealer:
        """The sealer of a key file. Raises StartError; never tells what is in the file."""
        lines = [line.strip() for line in _read(path, "JIESU_ORIGINALS_KEY").splitlines() if line.strip()]
        keys = [_key(line, path, number) for number, line in enumerate(lines, 1)]
        if not keys:
            raise StartError(f"JIESU_ORIGINALS_KEY: expected at least one key in {path}, got none")
        return cls(keys)

    def seal(self, appeal_id: str, title: str, text: str) -> Sealed:
        """Encrypt an original; only this id opens it again, so that two cannot be swapped."""
        return self._seal(appeal_id, orjson.dumps({"title": title, "text": text}))

    def open(self, appeal_id: str, sealed: Sealed) -> tuple[str, str]:
        """Title and text. Raises OriginalSealed when the key is not here or the bytes were changed."""
        body = orjson.loads(self._open(appeal_id, sealed))
        return body["title"], body["text"]

    def renew(self, appeal_id: str, sealed: Sealed) -> Sealed:
        """The same original, sealed with the first key."""
        return self._seal(appeal_id, self._open(appeal_id, sealed))

    def _seal(self, appeal_id: str, body: bytes) -> Sealed:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return Sealed(self.key_id, nonce + self._keys[self.key_id].encrypt(nonce, body, _bound_to(appeal_id)))

    def _open(self, appeal_id: str, sealed: Sealed) -> bytes:
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise OriginalSealed(f"需要密钥 {sealed.key_id}")
        nonce, body = sealed.body[:NONCE_BYTES], sealed.body[NONCE_BYTES:]
        try:
            return key.decrypt(nonce, body, _bound_to(appeal_id))
        except (InvalidTag, ValueError):  # ValueError: too short to be a seal at all
            raise OriginalSealed("密文与编号或密钥不符") from None


def make_key_file(path: Path) -> None:
    """Write a new key to a new file that only its owner can read. Raises StartError when it exists."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise StartError(f"expected a new file at {path}, got: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")


def read_secret(path: Path, name: str) -> bytes:
    """A secret from a file, at least 32 characters. Raises StartError; never tells what is in the file."""
    secret = _read(path, name).strip()
    if len(secret) < KEY_BYTES:
        raise StartError(f"{name}: expected at least {KEY_BYTES} characters in {path}, got {len(secret)}")
    return secret.encode()


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "not plain ASCII"
        raise StartError(f"{name}: expected a readable file at {path}, got: {told}") from error


def _key(line: str, path: Path, number: int) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise StartError(
            f"JIESU_ORIGINALS_KEY: expected {KEY_BYTES} bytes in base64 at {path}:{number}; "
            "make one with: python -m serving originals key FILE"
        )
    return key


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"jiesu key id\n" + key).hexdigest()[:12]


def _bound_to(appeal_id: str) -> bytes:
    return (MADE_FOR + appeal_id).encode("utf-8", "surrogateescape")
