"""The address of the Hogsend server to use, and the admin key for it (contract 8.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cli import environment
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from hogsend.urls import is_absolute_url, is_loopback, reached_at

DEFAULT_PORT = "3002"
DEFAULT_URL = f"http://localhost:{DEFAULT_PORT}"


@dataclass(frozen=True)
class ServerAddress:
    """A Hogsend server. The key is not part of `repr`, and so never in a traceback."""

    base_url: str
    admin_key: str | None = field(repr=False)

    @property
    def is_plaintext(self) -> bool:
        """Whether requests would cross a network unencrypted."""
        return self.base_url.lower().startswith("http:") and not is_loopback(self.base_url)


def resolve(url: str | None, admin_key: str | None) -> ServerAddress:
    """Look up server and key in flags, environment and `./.env`, in this order.

    Without any, the server is the one `hogsend up` runs here: where GATEWAY_HOST and GATEWAY_PORT
    say, with the key that was generated in HOGSEND_HOME. A generated key goes to loopback only.

    Raises:
        CommandError: the address or the key is not valid.
    """
    base = (url or environment.first("HOGSEND_API_URL") or own_url()).rstrip("/")
    try:
        parts = urlsplit(base)
        named_user = parts.username is not None or parts.password is not None
    except ValueError:
        parts, named_user = urlsplit(""), False
    if named_user:
        # httpx would send it as a second Authorization, and the address is printed.
        raise CommandError(
            "the address of the Hogsend server must not carry a user or password",
            "pass the admin key as HOGSEND_ADMIN_KEY",
            exit_code=ExitCode.USAGE,
        )
    if parts.scheme.lower() not in {"http", "https"} or not is_absolute_url(base):
        raise no_address(base)
    key = admin_key or environment.first("HOGSEND_ADMIN_KEY", "ADMIN_API_KEY")
    key = key.strip() if key else None
    if key and not (key.isascii() and key.isprintable()):
        raise CommandError(
            "the admin key contains a character that no key has",
            "copy it again, without line breaks",
            exit_code=ExitCode.USAGE,
        )
    address = ServerAddress(base, key or None)
    generated = _generated_key(address)
    if address.admin_key is None and generated is not None and _is_own(address):
        return ServerAddress(base, generated.read_text().strip() or None)
    return address


def no_address(url: str) -> CommandError:
    """Say that no Hogsend server can be reached at a URL."""
    return CommandError(
        f"{url} is not the address of a Hogsend server",
        f"give it as --url or HOGSEND_API_URL, for example {DEFAULT_URL}",
        exit_code=ExitCode.USAGE,
    )


def admin_key_hint(address: ServerAddress) -> str:
    """Tell where the admin key is: in the file of `hogsend up` if it exists."""
    if generated := _generated_key(address):
        return f'for the server `hogsend up` runs: export HOGSEND_ADMIN_KEY="$(cat {generated})"'
    return "pass --admin-key, or set HOGSEND_ADMIN_KEY to the server's ADMIN_API_KEY"


def own_url() -> str:
    """Address of the gateway that `hogsend up` runs here."""
    host = (environment.first("GATEWAY_HOST") or "").strip()
    port = (environment.first("GATEWAY_PORT") or "").strip()
    known = port if port.isdecimal() else DEFAULT_PORT
    url = f"http://{reached_at(host, known)}" if host else f"http://localhost:{known}"
    # What is none is for the server to say.
    return url if is_absolute_url(url) else f"http://localhost:{known}"


def _generated_key(address: ServerAddress) -> Path | None:
    """The file with the key that `hogsend up` generated here, for a server on this machine."""
    generated = environment.hogsend_home() / "secrets" / "admin-api-key"
    return generated if is_loopback(address.base_url) and generated.is_file() else None


def _is_own(address: ServerAddress) -> bool:
    """Whether it is the server that `hogsend up` runs; another program must not get its key."""
    return urlsplit(address.base_url).port == urlsplit(own_url()).port
