"""The NATS URL of a command, with the NATS user that the command needs."""

from __future__ import annotations

from dotenv import dotenv_values

from cli import environment
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from hogsend.client.address import tls_from_environment
from hogsend.contract.errors import InvalidRequest

SUBSCRIBER, OPERATOR = "subscriber.env", "operator.env"
"""Files that `hogsend up` writes into HOGSEND_HOME, each with the NATS URL of one user."""


def subscriber_address(nats_url: str | None) -> str:
    """Return the NATS URL for reading events: the flag, else NATS_URL, else the stack's file.

    Raises:
        CommandError: none of them has a URL, or a TLS setting of NATS is invalid.
    """
    if url := _configured_url(nats_url, SUBSCRIBER):
        return url
    file = environment.hogsend_home() / SUBSCRIBER
    raise CommandError(
        "the NATS URL is not known",
        f"start the stack with `hogsend up`, which writes it into {file}; or set NATS_URL",
    )


def operator_address(nats_url: str | None) -> str | None:
    """Return the NATS URL of the operator: the flag, else NATS_URL, else the stack's file.

    None stands for nats-py's default address.

    Raises:
        CommandError: a TLS setting of NATS is invalid.
    """
    return _configured_url(nats_url, OPERATOR)


def _configured_url(nats_url: str | None, file_name: str) -> str | None:
    try:
        tls_from_environment()
    except InvalidRequest as error:
        raise CommandError(
            str(error), "correct that setting, or unset it", exit_code=ExitCode.USAGE
        ) from None
    if url := nats_url or environment.first("NATS_URL"):
        return url
    file = environment.hogsend_home() / file_name
    return dotenv_values(file).get("NATS_URL") if file.is_file() else None
