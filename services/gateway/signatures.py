"""Signatures of deliveries by Standard Webhooks (https://www.standardwebhooks.com).

PostHog's webhook template signs where it is given a `signing_secret` (PostHog/posthog#90307,
nodejs/src/cdp/utils/standard-webhooks.ts): HMAC-SHA256 over id, timestamp and the body as it is
sent. A shared header can be repeated by whoever once saw it; a signature cannot.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Mapping, Sequence
from enum import Enum, auto

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

TOLERANCE_SECONDS = 300
"""How old a signature may be, and how far ahead its clock."""
FEWEST_KEY_BYTES = 24
"""PostHog signs with no shorter key."""
PREFIX = "whsec_"

_ID, _TIMESTAMP, _SIGNATURE = b"webhook-id", b"webhook-timestamp", b"webhook-signature"
_SECONDS = re.compile(rb"[0-9]{1,12}")


class SignatureCheck(Enum):
    """Outcome of a check."""

    VALID = auto()
    ABSENT = auto()
    EXPIRED = auto()
    WRONG = auto()


class Signatures:
    """Checks signatures with the keys that are in force."""

    def __init__(self, secrets: Sequence[str], *, required: bool) -> None:
        """Accept what any of `secrets` signed; `required` refuses what is not signed at all."""
        self._keys = [Webhook(key_of(secret)) for secret in secrets]
        self.required = required

    def check(self, headers: Mapping[bytes, bytes], body: bytes) -> SignatureCheck:
        """Check a delivery; without a key, none counts as signed."""
        if not self._keys:
            return SignatureCheck.ABSENT
        found = {name: headers[name] for name in (_ID, _TIMESTAMP, _SIGNATURE) if name in headers}
        if not found:
            return SignatureCheck.ABSENT
        seconds = found.get(_TIMESTAMP, b"")
        if not _SECONDS.fullmatch(seconds):
            return SignatureCheck.WRONG
        if abs(time.time() - int(seconds)) > TOLERANCE_SECONDS:
            return SignatureCheck.EXPIRED
        named = {name.decode(): value.decode("latin-1") for name, value in found.items()}
        # Tried with all of them, however early one matches.
        valid = [_is_valid(key, named, body) for key in self._keys]
        return SignatureCheck.VALID if any(valid) else SignatureCheck.WRONG


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


def _is_valid(key: Webhook, headers: dict[str, str], body: bytes) -> bool:
    try:
        key.verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):
        # Malformed headers raise what their decoding raises, all of it ValueErrors.
        return False
    return True
