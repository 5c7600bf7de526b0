"""Seals stored secrets with AES-256-GCM, in the row format Hogsend itself reads (contract 1.5)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hogsend.contract.errors import CannotUnseal

_IV_BYTES = 12
_TAG_BYTES = 16


class Sealer:
    """Seals with one secret; unseals texts that were sealed with this or a previous secret.

    The key is the SHA-256 of the secret's UTF-8 bytes. A sealed text is the base64url, without
    padding, of a 12-byte IV, the ciphertext and a 16-byte tag.
    """

    def __init__(self, secret: str, previous: Sequence[str] = ()) -> None:
        """Derive the keys.

        Args:
            secret: used to seal and unseal, usually `BETTER_AUTH_SECRET`.
            previous: used only to unseal, usually `BETTER_AUTH_SECRET_PREVIOUS`.
        """
        self._cipher = _cipher(secret)
        self._previous = [_cipher(old) for old in previous]

    def seal(self, plaintext: bytes) -> str:
        """Encrypt with a fresh random IV."""
        iv = os.urandom(_IV_BYTES)
        blob = iv + self._cipher.encrypt(iv, plaintext, None)
        return base64.urlsafe_b64encode(blob).rstrip(b"=").decode("ascii")

    def unseal(self, sealed: str) -> bytes:
        """Decrypt and authenticate.

        Raises:
            CannotUnseal: the text is not a sealed text, was altered, or was sealed with an unknown
                secret.
        """
        blob = _decode(sealed)
        for cipher in (self._cipher, *self._previous):
            try:
                return _decrypt(cipher, blob)
            except InvalidTag:
                continue
        raise CannotUnseal("the stored value was sealed with another secret")

    def reseal(self, sealed: str) -> str | None:
        """Seal a text of a previous secret with the current one; None if that sealed it already.

        Raises:
            CannotUnseal: as for `unseal`.
        """
        try:
            _decrypt(self._cipher, _decode(sealed))
        except InvalidTag:
            return self.seal(self.unseal(sealed))
        return None


def _cipher(secret: str) -> AESGCM:
    return AESGCM(hashlib.sha256(secret.encode()).digest())


def _decrypt(cipher: AESGCM, blob: bytes) -> bytes:
    return cipher.decrypt(blob[:_IV_BYTES], blob[_IV_BYTES:], None)


def _decode(sealed: str) -> bytes:
    try:
        blob = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise CannotUnseal("the stored value is not a sealed text") from error
    if len(blob) <= _IV_BYTES + _TAG_BYTES:
        raise CannotUnseal("the stored value is too short to be a sealed text")
    return blob
