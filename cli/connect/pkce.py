"""PKCE and state, which bind the answer in the browser to this run (RFC 7636; contract 3.3)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field

VERIFIER_BYTES = 32
STATE_BYTES = 16


@dataclass(frozen=True)
class PkceSession:
    """The verifier and state of one run; neither is part of `repr`."""

    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(VERIFIER_BYTES), repr=False)
    state: str = field(default_factory=lambda: secrets.token_urlsafe(STATE_BYTES), repr=False)

    @property
    def challenge(self) -> str:
        """The verifier's S256 challenge."""
        digest = hashlib.sha256(self.verifier.encode("ascii")).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
