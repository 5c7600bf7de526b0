"""Where other people's services connect, and as whom: arguments first, then the environment."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.users import DEPRECATED_USERS
from hogsend.transport.addresses import check_commas, check_hosts, split_credentials
from hogsend.transport.connection import Connection, Observer
from hogsend.transport.tls import (
    check_authority,
    check_certificate,
    check_key,
    client_context,
)

DEFAULT_URL = "nats://127.0.0.1:4222"

log = logging.getLogger(__name__)


Tls = ssl.SSLContext | Literal[False] | None
"""How to insist on TLS; False for not at all, None for as the environment says."""


def connection_to(url: str | None, *, user: str, tls: Tls, observer: Observer) -> Connection:
    """Prepare the connection of a service; nothing is connected yet.

    Args:
        url: NATS addresses, credentials included; `NATS_URL` from the environment by default.
        user: name this service is known by when the address does not carry one.
        tls: insist on TLS in this way; by default with the files that `NATS_TLS_CA`,
            `NATS_TLS_CERT` and `NATS_TLS_KEY` name, if any. False takes none of these files.
        observer: told about connection changes and errors.

    Raises:
        InvalidRequest: one of these files is of no use, an address is not valid, or a password in
            it has a comma, which separates addresses.
    """
    addresses = url or os.environ.get("NATS_URL") or DEFAULT_URL
    if tls is None:
        tls = tls_of_environment()
    try:
        check_commas(addresses.split(","))
        check_hosts(addresses.split(","))
    except ValueError as error:
        raise InvalidRequest(f"the URL of NATS: {error}") from None
    _, named, _ = split_credentials(addresses.split(","))
    known_as = named or user
    renamed = {old.value: new.value for old, new in DEPRECATED_USERS.items()}
    if current := renamed.get(known_as):
        log.warning("the NATS user %s is deprecated: use %s", known_as, current)
    return Connection(known_as, addresses, tls=tls or None, observer=observer)


def tls_of_environment() -> ssl.SSLContext | None:
    """TLS with the files that the environment names as a service of ours reads it; None if none.

    Raises:
        InvalidRequest: a file is of no use; names the variable and what to write.
    """
    ca, certificate, key = (_file(f"NATS_TLS_{kind}") for kind in ("CA", "CERT", "KEY"))
    checks: dict[str, Callable[[], None]] = {
        "NATS_TLS_CA": lambda: check_authority(ca) if ca is not None else None,
        "NATS_TLS_CERT": lambda: check_certificate(certificate) if certificate else None,
        "NATS_TLS_KEY": lambda: check_key(key, certificate),
    }
    for name, check in checks.items():
        try:
            check()
        except ValueError as error:
            raise InvalidRequest(f"{name}: {error}") from None
    return client_context(ca, certificate, key) if ca or certificate else None


def _file(name: str) -> Path | None:
    given = os.environ.get(name, "").strip()
    return Path(given).expanduser() if given else None
