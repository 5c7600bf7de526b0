"""Address, user and TLS of other people's services, from arguments or else the environment."""

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
"""TLS context; False for no TLS files, None for those that the environment names."""


def connection_to(url: str | None, *, user: str, tls: Tls, observer: Observer) -> Connection:
    """Prepare the connection of a service, without connecting.

    Args:
        url: NATS addresses, credentials included; `NATS_URL` from the environment by default.
        user: NATS user of this service when the address carries none.
        tls: require TLS with this context; by default with the files that `NATS_TLS_CA`,
            `NATS_TLS_CERT` and `NATS_TLS_KEY` name, if any. False ignores these files.
        observer: called with `(event, detail)` about connection changes and errors.

    Raises:
        InvalidRequest: one of these files cannot be used, an address is not valid, or a password in
            it contains a comma, which separates addresses.
    """
    addresses = url or os.environ.get("NATS_URL") or DEFAULT_URL
    if tls is None:
        tls = tls_from_environment()
    try:
        check_commas(addresses.split(","))
        check_hosts(addresses.split(","))
    except ValueError as error:
        raise InvalidRequest(f"the URL of NATS: {error}") from None
    _, user_in_address, _ = split_credentials(addresses.split(","))
    user = user_in_address or user
    renamed = {old.value: new.value for old, new in DEPRECATED_USERS.items()}
    if current := renamed.get(user):
        log.warning("the NATS user %s is deprecated: use %s", user, current)
    return Connection(user, addresses, tls=tls or None, observer=observer)


def tls_from_environment() -> ssl.SSLContext | None:
    """Return a TLS context with the files that the environment names; None if it names none.

    The variables are those of Hogsend's own services.

    Raises:
        InvalidRequest: a file cannot be used; the text names the variable and the fix.
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
    path = os.environ.get(name, "").strip()
    return Path(path).expanduser() if path else None
