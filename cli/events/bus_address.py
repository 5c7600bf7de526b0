"""Where events are followed: the address of NATS with a user that may read them."""

from __future__ import annotations

from dotenv import dotenv_values

from cli import environment
from cli.errors import CommandError

FILE = "subscriber.env"


def bus_address(nats_url: str | None) -> str:
    """Look up the address in the flag, the environment, and the file `hogsend up` writes.

    Raises:
        CommandError: there is none.
    """
    if found := nats_url or environment.first("NATS_URL"):
        return found
    file = environment.hogsend_home() / FILE
    if file.is_file() and (found := dotenv_values(file).get("NATS_URL")):
        return found
    raise CommandError(
        "the address of NATS is not known",
        f"start the stack with `hogsend up`, which writes it into {file}, or set NATS_URL",
    )
