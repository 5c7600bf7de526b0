"""Stores facts about the webhook secret on disk, for a gateway that starts while NATS is down.

Two facts are stored: the digest of the generated secret, with which the gateway can check
deliveries, and that there ever was a secret, so that the route stays closed without one (ADR 13).
That there is no secret is never stored.
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
"""File in `SPOOL_DIR` whose existence means: there was a secret, so keep the route closed."""


class SecretMemory:
    """The files with these facts. Without a path nothing is stored."""

    def __init__(self, cache: Path | None) -> None:
        """Store the digest in `cache`, and the marker `CLOSED_FILE` in the same directory."""
        self._cache = cache
        self._marker = cache.with_name(CLOSED_FILE) if cache else None
        self.had_secret = self._marker is not None and self._marker.exists()
        """Whether there ever was a secret, as far as this gateway knows."""
        self._stored: WebhookSecretReply | None = None
        self._is_failure_logged = False

    def remember_secret(self) -> None:
        """Store that there is, or was, a secret."""
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
            log.warning(
                "it cannot be stored on disk that there is a webhook secret", reason=str(error)
            )

    def load(self) -> WebhookSecretReply | None:
        """Return the digest that an earlier process stored, or None if it cannot be read."""
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
        """Store the digest of a generated secret, or remove a stored one if there is none."""
        if self._cache is None:
            return
        try:
            if reply.state != "present":
                self._cache.unlink(missing_ok=True)
            elif reply != self._stored or not self._cache.exists():
                _replace(self._cache, msgspec.json.encode(reply))
        except OSError as error:
            metrics.FAILURES.labels("webhook_secret", "memory").inc()
            if not self._is_failure_logged:
                log.warning("the webhook secret cannot be cached", reason=str(error))
            self._is_failure_logged = True
        else:
            self._stored = reply
            self._is_failure_logged = False


def _replace(path: Path, content: bytes) -> None:
    """Replace a file atomically. The new file is readable by its owner only."""
    # Invariant: after a crash or power failure the file has either the old or the new content.
    # Why: the new file is synced before it gets the name.
    # Without it: a truncated digest would be unreadable, and webhooks refused while NATS is down.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".new")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
