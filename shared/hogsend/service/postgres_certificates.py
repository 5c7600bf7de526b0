"""Files of certificates that a PostgreSQL address names: read once, before anything connects.

asyncpg reads them at every attempt to connect, and a file that is missing looks like a server that
is away: a service would wait for it for ever.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

_FILES = ("sslrootcert", "sslcrl", "sslcert", "sslkey")
_VERIFYING = frozenset({"verify-ca", "verify-full"})


def check_certificates(parameters: Mapping[str, str]) -> None:
    """Read the files that parameters of an address name.

    Raises:
        ValueError: a file cannot be read, holds something else, or is missing; names the parameter.
    """
    mode = parameters.get("sslmode", "prefer")
    if mode == "disable":
        return
    for name in _FILES:
        file = parameters.get(name)
        if file is not None and not (Path(file).is_file() and os.access(file, os.R_OK)):
            raise ValueError(f"its {name} is not a file that can be read here; write its full path")
    root = parameters.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if root is None and mode in _VERIFYING and not _usual_root().is_file():
        raise ValueError(
            f"sslmode={mode} needs the certificate of the authority that signed the server's: add "
            "sslrootcert=/path/to/ca.pem"
        )
    for name in ("sslrootcert", "sslcrl"):
        if (file := parameters.get(name)) is not None:
            _load(name, partial(ssl.SSLContext.load_verify_locations, cafile=file))
    certificate, key = parameters.get("sslcert"), parameters.get("sslkey")
    if certificate is not None:
        # Without a password it would be asked for at the terminal.
        _load(
            "sslcert and sslkey",
            partial(ssl.SSLContext.load_cert_chain, certfile=certificate, keyfile=key, password=""),
        )


def _usual_root() -> Path:
    """Where libpq and asyncpg look for the certificate that nothing names."""
    try:
        return Path.home() / ".postgresql" / "root.crt"
    except (RuntimeError, KeyError):
        # A user without a home directory.
        return Path(os.devnull)


def _load(name: str, load: Callable[[ssl.SSLContext], None]) -> None:
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (OSError, ValueError):
        # OpenSSL's words are about its own functions.
        raise ValueError(
            f"what its {name} names cannot be used; write files in PEM format, a key without a "
            "password"
        ) from None
