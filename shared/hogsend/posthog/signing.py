"""Signing secrets of Standard Webhooks (https://www.standardwebhooks.com), as PostHog uses them.

PostHog's webhook template signs deliveries if its input `signing_secret` is set
(PostHog/posthog#90307, nodejs/src/cdp/utils/standard-webhooks.ts).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets

PREFIX = "whsec_"
MIN_KEY_BYTES = 24
"""Minimum length of a key: PostHog does not sign with a shorter one."""
KEY_BYTES = 32
"""Length of a generated key."""
KEY_ID_HEADER = "x-hogsend-signing-key"
"""Header of a destination with the id of its signing key. PostHog's API does not return the key."""
_ID_DIGITS = 16


def mint() -> str:
    """Make a new signing secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Decode a signing secret: base64, with or without `whsec_`.

    Raises:
        ValueError: it is no signing secret. The message does not repeat it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(
            f"a signing secret is base64 of at least {MIN_KEY_BYTES} bytes, with or without "
            f"{PREFIX}: make one with `openssl rand -base64 32`"
        )
    return key


def key_id(secret: str) -> str:
    """Identify a key without revealing it: the beginning of its SHA-256, in hex.

    Raises:
        ValueError: it is no signing secret.
    """
    return hashlib.sha256(key_of(secret)).hexdigest()[:_ID_DIGITS]
