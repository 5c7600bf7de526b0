"""Verifies the signatures of deliveries by Standard Webhooks (https://www.standardwebhooks.com).

PostHog's webhook template signs deliveries if it has a `signing_secret` (PostHog/posthog#90307,
nodejs/src/cdp/utils/standard-webhooks.ts): HMAC-SHA256 over the id, the timestamp and the body as
sent. A reader of one delivery can reuse its shared secret header, but cannot sign other bodies.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from enum import Enum, auto

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from hogsend.posthog.signing import KEY_ID_HEADER
from services.gateway.signing_keys import SigningKeys

TOLERANCE_SECONDS = 300
"""Seconds by which a signature's timestamp may be in the past or in the future."""

_ID, _TIMESTAMP, _SIGNATURE = b"webhook-id", b"webhook-timestamp", b"webhook-signature"
_KEY_ID = KEY_ID_HEADER.encode()
_SECONDS = re.compile(rb"[0-9]{1,12}")


class SignatureCheck(Enum):
    """Outcome of a check."""

    VALID = auto()
    ABSENT = auto()
    EXPIRED = auto()
    WRONG = auto()
    UNKNOWN = auto()
    """The delivery is signed, but the gateway has no key to verify it."""


class Signatures:
    """Verifies signatures with the keys that are in force."""

    def __init__(self, keys: SigningKeys, *, required: bool) -> None:
        """Accept signatures by any of `keys`. With `required`, unsigned deliveries are refused."""
        self._keys = keys
        self.required = required

    def is_enough(self, check: SignatureCheck) -> bool:
        """Whether a delivery with this outcome is accepted."""
        if self.required:
            return check is SignatureCheck.VALID
        return check is not SignatureCheck.WRONG and check is not SignatureCheck.EXPIRED

    def check(self, headers: Mapping[bytes, bytes], body: bytes) -> SignatureCheck:
        """Verify the signature of a delivery."""
        # Most deliveries have none of the three headers.
        if not (_SIGNATURE in headers or _ID in headers or _TIMESTAMP in headers):
            return SignatureCheck.ABSENT
        keys = self._keys.in_force()
        if not keys:
            return SignatureCheck.UNKNOWN
        seconds = headers.get(_TIMESTAMP, b"")
        if not _SECONDS.fullmatch(seconds):
            return SignatureCheck.WRONG
        if abs(time.time() - int(seconds)) > TOLERANCE_SECONDS:
            return SignatureCheck.EXPIRED
        signed = {
            name.decode(): headers[name].decode("latin-1")
            for name in (_ID, _TIMESTAMP, _SIGNATURE)
            if name in headers
        }
        # Every key is tried, so that the time does not depend on which one matches.
        valid = [_is_valid(key, signed, body) for key in keys.values()]
        return SignatureCheck.VALID if any(valid) else SignatureCheck.WRONG

    async def check_again(self, headers: Mapping[bytes, bytes], body: bytes) -> SignatureCheck:
        """Verify a wrong signature again, with keys that may have been generated since.

        The delivery names the key that signed it. Keys are requested only if that key is not known.

        Raises:
            HogsendError: the credentials service does not reply.
        """
        key_id = headers.get(_KEY_ID)
        if key_id is None or key_id.decode("latin-1") in self._keys.in_force():
            return SignatureCheck.WRONG
        await self._keys.refresh()
        return self.check(headers, body)


def _is_valid(key: Webhook, headers: dict[str, str], body: bytes) -> bool:
    try:
        key.verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):
        # Malformed headers raise the errors of their decoding, which are all ValueErrors.
        return False
    return True
