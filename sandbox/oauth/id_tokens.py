"""Id tokens, and the key that verifies them (OpenID Connect Core 1.0, section 2; RFC 7517).

Follows oauthlib's `add_id_token` and django-oauth-toolkit's `finalize_id_token` with PostHog's
settings: signed with RS256, valid for ten hours, with the claims that the scopes permit.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from typing import Any
from uuid import uuid4

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sandbox.clock import Clock
from sandbox.oauth.claims import claims

OPENID = "openid"
SECONDS = 36_000


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A public key (RFC 7517)."""

    alg: str = "RS256"
    use: str = "sig"
    kid: str
    kty: str = "RSA"
    n: str
    e: str


class KeySet(msgspec.Struct, frozen=True):
    """The keys that verify signatures (RFC 7517)."""

    keys: list[Key]


class IdTokens:
    """Issues the id tokens of one server. Its key is generated at the first use."""

    def __init__(self, clock: Clock, issuer: str) -> None:
        """Set the issuer, which is the server's URL without a trailing slash."""
        self._clock = clock
        self._issuer = issuer
        self._logged_in = int(clock.now())

    def issue(
        self, client_id: str, scopes: tuple[str, ...], access_token: str, nonce: str | None
    ) -> str | msgspec.UnsetType:
        """Issue the id token for an access token; none without the scope `openid`."""
        if OPENID not in scopes:
            return msgspec.UNSET
        now = int(self._clock.now())
        payload: dict[str, Any] = {"aud": client_id, "iat": now}
        if nonce is not None:
            payload["nonce"] = nonce
        digest = hashlib.sha256(access_token.encode()).digest()
        payload["at_hash"] = _base64url(digest[: len(digest) // 2])
        payload |= claims(scopes)
        payload |= {
            "iss": self._issuer,
            "exp": now + SECONDS,
            "auth_time": self._logged_in,
            "jti": str(uuid4()),
        }
        header = {"typ": "JWT", "alg": "RS256", "kid": self._public.kid}
        signed = f"{_part(header)}.{_part(payload)}"
        signature = self._private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"

    def keys(self) -> KeySet:
        """Return the keys that verify the tokens."""
        return KeySet([self._public])

    @cached_property
    def _private(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _public(self) -> Key:
        numbers = self._private.public_key().public_numbers()
        n, e = _number(numbers.n), _number(numbers.e)
        # The key id is the thumbprint of RFC 7638.
        members = msgspec.json.encode({"e": e, "kty": "RSA", "n": n}, order="sorted")
        return Key(kid=_base64url(hashlib.sha256(members).digest()), n=n, e=e)


def _part(content: dict[str, Any]) -> str:
    return _base64url(msgspec.json.encode(content))


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
