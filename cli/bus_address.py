"""The address of NATS, with the user that a command needs there."""

from __future__ import annotations

from dotenv import dotenv_values

from cli import environment
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from hogsend.client.address import tls_from_environment
from hogsend.contract.errors import InvalidRequest

SUBSCRIBER, OPERATOR = "subscriber.env", "operator.env"
"""Files that `hogsend up` writes into HOGSEND_HOME, each with the address for one user."""


def subscriber_address(nats_url: str | None) -> str:
    """Look up where events are read: in the flag, the environment, and the stack's file.

    Raises:
        CommandError: there is none, or a file with which to reach it is of no use.
    """
    if found := _given(nats_url, SUBSCRIBER):
        return found
    file = environment.hogsend_home() / SUBSCRIBER
    raise CommandError(
        "the address of NATS is not known",
        f"start the stack with `hogsend up`, which writes it into {file}, or set NATS_URL",
    )


def operator_address(nats_url: str | None) -> str | None:
    """Look up where streams are administered, in the same places; None is NATS' usual address.

    Raises:
        CommandError: a file with which to reach it is of no use.
    """
    return _given(nats_url, OPERATOR)


def _given(nats_url: str | None, name: str) -> str | None:
    try:
        tls_from_environment()
    except InvalidRequest as error:
        raise CommandError(
            str(error), "correct that setting, or unset it", exit_code=ExitCode.USAGE
        ) from None
    if found := nats_url or environment.first("NATS_URL"):
        return found
    file = environment.hogsend_home() / name
    return dotenv_values(file).get("NATS_URL") if file.is_file() else None
