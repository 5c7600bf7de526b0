"""The flags of every command that asks a server with the admin key, and the asking."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cyclopts import Parameter

from cli.admin.client import AdminClient
from cli.arguments import NameIfAny
from cli.flags import Flag
from cli.server_address import resolve
from cli.terminal import Terminal

Answer = TypeVar("Answer")

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@Parameter(name="*")
@dataclass(frozen=True)
class Server:
    """The server, and the output format.

    Parameters
    ----------
    url
        Address of the Hogsend server; HOGSEND_API_URL, else the one `hogsend up` runs here.
    admin_key
        Its admin key; HOGSEND_ADMIN_KEY or ADMIN_API_KEY, in the environment or ./.env, else
        the one that `hogsend up` made here.
    json
        Print one JSON document on stdout and nothing else.
    """

    url: NameIfAny = None
    admin_key: str | None = None
    json: Flag = False


DEFAULT_SERVER = Server()
"""What a command gets when no such flag is given."""


def ask(server: Server, question: Callable[[AdminClient], Answer]) -> Answer:
    """Return the server's answer.

    Raises:
        CommandError: the address is not valid, or there is no answer that can be used.
    """
    address = resolve(server.url, server.admin_key)
    terminal = Terminal(json=server.json)
    terminal.warn_of_plaintext(address)
    with AdminClient(address) as client, terminal.busy(f"asking {address.base_url}"):
        return question(client)


def moment(text: str) -> str:
    """A moment as servers read it; a day alone is its beginning, in UTC."""
    return f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text
