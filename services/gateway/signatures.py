"""Signatures of deliveries by Standard Webhooks (https://www.standardwebhooks.com).

PostHog's webhook template signs where it is given a `signing_secret` (PostHog/posthog#90307,
nodejs/src/cdp/utils/standard-webhooks.ts): HMAC-SHA256 over id, timestamp and the body as it is
sent. A shared header can be repeated by a reader of one delivery; a signature cannot.
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
"""How old a signature may be, and how far ahead its clock."""

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
    """It is signed, and there is no key to verify it with."""


class Signatures:
    """Checks signatures with the keys that are in force."""

    def __init__(self, keys: SigningKeys, *, required: bool) -> None:
        """Accept what any of `keys` signed; `required` refuses what is not signed at all."""
        self._keys = keys
        self.required = required

    def is_enough(self, check: SignatureCheck) -> bool:
        """Whether a delivery is accepted with that outcome."""
        if self.required:
            return check is SignatureCheck.VALID
        return check is not SignatureCheck.WRONG and check is not SignatureCheck.EXPIRED

    def check(self, headers: Mapping[bytes, bytes], body: bytes) -> SignatureCheck:
        """Check a delivery."""
        # The three most deliveries have none of.
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
        found = {name: headers[name] for name in (_ID, _TIMESTAMP, _SIGNATURE) if name in headers}
        named = {name.decode(): value.decode("latin-1") for name, value in found.items()}
        # Tried with all of them, however early one matches.
        valid = [_is_valid(key, named, body) for key in keys.values()]
        return SignatureCheck.VALID if any(valid) else SignatureCheck.WRONG

    async def check_again(self, headers: Mapping[bytes, bytes], body: bytes) -> SignatureCheck:
        """Check a delivery that was wrong, with what may have been minted since.

        It says which key it was signed with. One that is known already is not asked for.

        Raises:
            HogsendError: the credentials service cannot be asked.
        """
        named = headers.get(_KEY_ID)
        if named is None or named.decode("latin-1") in self._keys.in_force():
            return SignatureCheck.WRONG
        await self._keys.refresh()
        return self.check(headers, body)


def _is_valid(key: Webhook, headers: dict[str, str], body: bytes) -> bool:
    try:
        key.verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):
        # Malformed headers raise what their decoding raises, all of it ValueErrors.
        return False
    return True
