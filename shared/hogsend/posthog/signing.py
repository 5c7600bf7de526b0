"""Keys that PostHog signs webhooks with, by Standard Webhooks (https://www.standardwebhooks.com).

PostHog's webhook template signs where its input `signing_secret` is set (PostHog/posthog#90307,
nodejs/src/cdp/utils/standard-webhooks.ts).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets

PREFIX = "whsec_"
FEWEST_KEY_BYTES = 24
"""PostHog signs with no shorter key."""
KEY_BYTES = 32
KEY_ID_HEADER = "x-hogsend-signing-key"
"""Header of a destination that says which key it signs with: PostHog shows no secret again."""
_ID_DIGITS = 16


def mint() -> str:
    """Make a new signing secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Decode a signing secret: base64, with or without `whsec_`.

    Raises:
        ValueError: it is none; repeats no part of it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < FEWEST_KEY_BYTES:
        raise ValueError(
            f"a signing secret is base64 of at least {FEWEST_KEY_BYTES} bytes, with or without "
            f"{PREFIX}: make one with `openssl rand -base64 32`"
        )
    return key


def key_id(secret: str) -> str:
    """Name a key without telling it: the beginning of its SHA-256.

    Raises:
        ValueError: the secret is none.
    """
    return hashlib.sha256(key_of(secret)).hexdigest()[:_ID_DIGITS]
