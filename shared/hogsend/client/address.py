"""Where other people's services connect, and as whom: arguments first, then the environment."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hogsend.contract.users import DEPRECATED_USERS
from hogsend.transport.connection import Connection, Observer
from hogsend.transport.tls import client_context

DEFAULT_URL = "nats://127.0.0.1:4222"

log = logging.getLogger(__name__)


def connection_to(
    url: str | None, *, user: str, tls: ssl.SSLContext | None, observer: Observer
) -> Connection:
    """Prepare the connection of a service; nothing is connected yet.

    Args:
        url: NATS addresses, credentials included; `NATS_URL` from the environment by default.
        user: name this service is known by when the address does not carry one.
        tls: insist on TLS in this way; by default with the authority `NATS_TLS_CA` names, if any.
        observer: told about connection changes and errors.
    """
    addresses = url or os.environ.get("NATS_URL", DEFAULT_URL)
    if tls is None and (authority := os.environ.get("NATS_TLS_CA")):
        tls = client_context(Path(authority))
    known_as = unquote(urlsplit(addresses.split(",")[0]).username or user)
    renamed = {old.value: new.value for old, new in DEPRECATED_USERS.items()}
    if current := renamed.get(known_as):
        log.warning("the NATS user %s is deprecated: use %s", known_as, current)
    return Connection(known_as, addresses, tls=tls, observer=observer)
