"""What a gateway keeps of the webhook secret on its disk, for a start while NATS is down.

The digest of the minted secret, so that a gateway started then still knows which deliveries to
accept, and whether there ever was a secret, so that the route stays closed without one (ADR 13).
"There is no secret" is never kept.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
import structlog

from hogsend.contract.credentials import WebhookSecretReply
from hogsend.contract.json_text import NOT_JSON
from hogsend.service import metrics

log = structlog.get_logger(__name__)

CLOSED_FILE = "webhook-closed"
"""Beside the spool: that there was a secret, so that the route stays closed without one."""


class SecretMemory:
    """The files of one gateway; without a path nothing is kept."""

    def __init__(self, cache: Path | None) -> None:
        """Keep the digest in `cache`, and that there was a secret beside it."""
        self._cache = cache
        self._marker = cache.with_name(CLOSED_FILE) if cache else None
        self.had_secret = self._marker is not None and self._marker.exists()
        """Whether there ever was one, as far as this gateway knows."""
        self._stored: WebhookSecretReply | None = None
        self._cache_failed = False

    def remember_secret(self) -> None:
        """Keep that there is a secret."""
        self.had_secret = True
        if self._marker is None:
            return
        try:
            if self._marker.exists():
                return
            self._marker.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._marker.touch(mode=0o600)
        except OSError as error:
            metrics.FAILURES.labels("webhook_secret", "memory").inc()
            log.warning("that there is a webhook secret cannot be kept", reason=str(error))

    def load(self) -> WebhookSecretReply | None:
        """Give the digest that an earlier process kept, if it can be read."""
        if self._cache is None:
            return None
        try:
            return msgspec.json.decode(self._cache.read_bytes(), type=WebhookSecretReply)
        except FileNotFoundError:
            return None
        except (OSError, *NOT_JSON) as error:
            metrics.FAILURES.labels("webhook_secret", "memory").inc()
            log.warning("the cached webhook secret is unreadable", reason=type(error).__name__)
            return None

    def store(self, reply: WebhookSecretReply) -> None:
        """Keep the digest, or forget it where there is none."""
        if self._cache is None:
            return
        try:
            if reply.state != "present":
                self._cache.unlink(missing_ok=True)
            elif reply != self._stored or not self._cache.exists():
                _replace(self._cache, msgspec.json.encode(reply))
        except OSError as error:
            metrics.FAILURES.labels("webhook_secret", "memory").inc()
            if not self._cache_failed:
                log.warning("the webhook secret cannot be cached", reason=str(error))
            self._cache_failed = True
        else:
            self._stored = reply
            self._cache_failed = False


def _replace(path: Path, content: bytes) -> None:
    """Replace a file that only its owner can read; after a power cut it is one or the other."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".new")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
