"""Files of certificates that a PostgreSQL address names: read once, before anything connects.

asyncpg reads them at every attempt to connect, and a file that is missing looks like a server that
is down: a service would wait for it for ever.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

_FILES = ("sslrootcert", "sslcrl", "sslcert", "sslkey")
_TO_VERIFY = frozenset({"sslrootcert", "sslcrl"})
_VERIFYING = frozenset({"verify-ca", "verify-full"})
_NEVER_VERIFYING = frozenset({"allow", "prefer"})


def check_certificates(parameters: Mapping[str, str]) -> None:
    """Read the files that parameters of an address name, or else the environment, as libpq does.

    Raises:
        ValueError: a file cannot be read, holds something else, or is missing; names the parameter.
    """
    mode = parameters.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"
    if mode == "disable":
        return
    named = dict(_named(parameters, verifying=mode not in _NEVER_VERIFYING))
    for file, said in named.values():
        if not (Path(file).is_file() and os.access(file, os.R_OK)):
            raise ValueError(f"{said} is not a file that can be read here; write its full path")
    if "sslrootcert" not in named and mode in _VERIFYING and not _usual_root().is_file():
        raise ValueError(
            f"sslmode={mode} needs the certificate of the authority that signed the server's: add "
            "sslrootcert=/path/to/ca.pem"
        )
    for name in ("sslrootcert", "sslcrl"):
        if name in named:
            file, said = named[name]
            _load(said, partial(ssl.SSLContext.load_verify_locations, cafile=file))
    if "sslcert" in named:
        certificate, key = named["sslcert"][0], named.get("sslkey", (None, ""))[0]
        # Without a password it would be asked for at the terminal.
        _load(
            "its sslcert and sslkey",
            partial(ssl.SSLContext.load_cert_chain, certfile=certificate, keyfile=key, password=""),
        )


def _named(
    parameters: Mapping[str, str], *, verifying: bool
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Files by parameter, each with what names it."""
    for name in _FILES:
        variable = f"PG{name.upper()}"
        if name in parameters:
            yield name, (parameters[name], f"its {name}")
        elif (file := os.environ.get(variable)) and (verifying or name not in _TO_VERIFY):
            yield name, (file, f"the file in {variable}")


def _usual_root() -> Path:
    """Where libpq and asyncpg look for the certificate that nothing names."""
    try:
        return Path.home() / ".postgresql" / "root.crt"
    except (RuntimeError, KeyError):
        # A user without a home directory.
        return Path(os.devnull)


def _load(said: str, load: Callable[[ssl.SSLContext], None]) -> None:
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (OSError, ValueError):
        # OpenSSL's words are about its own functions.
        raise ValueError(
            f"{said} cannot be used; write files in PEM format, a key without a password"
        ) from None
