"""Signs deliveries by Standard Webhooks (nodejs/src/cdp/utils/standard-webhooks.ts)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping

PREFIX = "whsec_"
MIN_KEY_BYTES = 24
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_HEADERS = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature"})


class UnusableSecret(Exception):
    """The signing secret is unusable. The delivery is not sent, instead of being sent unsigned."""


def signing_key(secret: object) -> bytes:
    """Decode the input `signing_secret`.

    Raises:
        UnusableSecret: the secret is not base64, or too short.
    """
    encoded = secret.removeprefix(PREFIX) if isinstance(secret, str) else ""
    if not _BASE64.fullmatch(encoded):
        raise UnusableSecret("the signing secret is not valid base64")
    # PostHog decodes leniently, with or without the padding.
    digits = encoded.rstrip("=")
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    key = base64.b64decode(digits + "=" * (-len(digits) % 4))
    if len(key) < MIN_KEY_BYTES:
        raise UnusableSecret(
            f"the signing secret decodes to {len(key)} bytes; it needs at least {MIN_KEY_BYTES}"
        )
    return key


def signed(
    headers: Mapping[str, str], key: bytes, *, id: str, seconds: int, body: bytes
) -> dict[str, str]:
    """Return the headers with a signature. `id` is the same for all attempts of a delivery."""
    text = b"%s.%d.%s" % (id.encode(), seconds, body)
    digest = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    kept = {name: value for name, value in headers.items() if name.lower() not in _HEADERS}
    return {
        **kept,
        "webhook-id": id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{digest}",
    }
