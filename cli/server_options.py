"""Options of every command that sends requests to a Hogsend server with the admin key."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cyclopts import Parameter

from cli.admin.client import AdminClient
from cli.arguments import OptionalName
from cli.flags import Flag
from cli.server_address import resolve
from cli.terminal import Terminal

Reply = TypeVar("Reply")

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@Parameter(name="*")
@dataclass(frozen=True)
class Server:
    """Which server a command uses, and the output format.

    Parameters
    ----------
    url
        URL of the Hogsend server. Default: HOGSEND_API_URL, else the server that `hogsend up`
        runs on this machine.
    admin_key
        Admin key of the server. Default: HOGSEND_ADMIN_KEY or ADMIN_API_KEY from the environment
        or ./.env, else the key that `hogsend up` generated in HOGSEND_HOME.
    json
        Print one JSON document on stdout and nothing else.
    """

    url: OptionalName = None
    admin_key: str | None = field(default=None, repr=False)
    json: Flag = False


DEFAULT_SERVER = Server()
"""The options of a command line that gives none of them."""


def request(server: Server, call: Callable[[AdminClient], Reply]) -> Reply:
    """Connect to the server, run `call` with the client, and return its result.

    Raises:
        CommandError: the address is invalid, or the server did not reply or refused.
    """
    address = resolve(server.url, server.admin_key)
    terminal = Terminal(json=server.json)
    terminal.warn_of_plaintext(address)
    with AdminClient(address) as client, terminal.busy(f"requesting {address.base_url}"):
        return call(client)


def timestamp(text: str) -> str:
    """Return `text` as an RFC 3339 timestamp: a date alone becomes midnight UTC of that day."""
    return f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text
