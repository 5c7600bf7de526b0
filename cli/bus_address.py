"""The NATS URL of a command, with the NATS user that the command needs."""

from __future__ import annotations

import os

from dotenv import dotenv_values

from cli import environment
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from hogsend.client.address import tls_from_environment
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.users import DEPRECATED_USERS, User

USERS_WITH_FILE = (User.SUBSCRIBER, User.APP, User.OPERATOR, *DEPRECATED_USERS)
"""NATS users for each of which `hogsend up` writes a file with its NATS URL; see `file_of`."""


def subscriber_address(nats_url: str | None) -> str:
    """Return the NATS URL for reading events: the flag, else NATS_URL, else the stack's file.

    Raises:
        CommandError: none of them has a URL, or a TLS setting of NATS is invalid.
    """
    return _configured_url(nats_url or environment.first("NATS_URL"), User.SUBSCRIBER)


def operator_address(nats_url: str | None) -> str:
    """Return the NATS URL of the operator: the flag, else NATS_URL, else the stack's file.

    A NATS_URL that the shell loaded from the stack's files does not count: it has the user of a
    service that runs in the same terminal.

    Raises:
        CommandError: none of them has a URL, or a TLS setting of NATS is invalid.
    """
    if not nats_url:
        nats_url = environment.first("NATS_URL")
        if nats_url in _stack_urls():
            nats_url = None
    return _configured_url(nats_url, User.OPERATOR)


def discard_stack_url() -> None:
    """Unset NATS_URL if the shell loaded it from the files that `hogsend up` writes.

    Otherwise `hogsend up` in the terminal of a subscriber would not start its own NATS, and
    `hogsend backup` and `restore` would connect as the subscriber's user.
    """
    url = os.environ.get("NATS_URL")
    if url and url in _stack_urls():
        del os.environ["NATS_URL"]


def _stack_urls() -> set[str | None]:
    """Return the NATS URLs in HOGSEND_HOME, one for each NATS user of the operator's services."""
    files = [environment.hogsend_home() / file_of(user) for user in USERS_WITH_FILE]
    try:
        return {dotenv_values(file).get("NATS_URL") for file in files if file.is_file()}
    except PermissionError:
        # Another user's stack. This user's shell cannot have loaded its files.
        return set()


def file_of(user: User) -> str:
    """Return the name of the file in HOGSEND_HOME with the NATS URL of a user."""
    return f"{user}.env"


def _configured_url(url: str | None, user: User) -> str:
    try:
        tls_from_environment()
    except InvalidRequest as error:
        raise CommandError(
            str(error), "correct that setting, or unset it", exit_code=ExitCode.USAGE
        ) from None
    file = environment.hogsend_home() / file_of(user)
    if url := url or (dotenv_values(file).get("NATS_URL") if file.is_file() else None):
        return url
    raise CommandError(
        "the NATS URL is not known",
        f"start the stack with `hogsend up`, which writes it into {file}; or set NATS_URL",
    )
