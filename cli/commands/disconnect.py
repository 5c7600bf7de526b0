"""`hogsend disconnect posthog`: take the credential of a PostHog project away again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from cli.admin.errors import AdminError
from cli.asking import DEFAULT_SERVER, Server, ask
from cli.confirmation import confirmed, require_terminal
from cli.console import out, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_address import resolve
from cli.terminal import print_hanging

_QUESTION = (
    "Delete the credential and the webhook secret that was made for it? Webhooks are refused until "
    "PostHog is connected again, unless POSTHOG_WEBHOOK_SECRET is set."
)


def disconnect(
    provider: Literal["posthog"],
    /,
    *,
    yes: Flag = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Delete the credential of a connected project and the secret made for it; asks first.

    The destination in PostHog stays; delete or disable it there. Exits with 1 when no project is
    connected.

    Parameters
    ----------
    provider
        What to disconnect: posthog.
    yes
        Do not ask.
    server
        The server, and the output format.
    """
    if not yes:
        require_terminal("disconnecting", json=server.json)
        if not confirmed(_QUESTION):
            print_hanging(out, ("", ""), "nothing was deleted")
            return ExitCode.FAILED
    try:
        deleted = ask(server, lambda client: client.disconnect())
    except AdminError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        base_url = resolve(server.url, server.admin_key).base_url
        raise CommandError(
            f"{base_url} has no credential of {provider}",
            f"`hogsend connect {provider}` stores one",
        ) from None
    if server.json:
        print_json(deleted)
    else:
        print_hanging(out, ("deleted ", "bold green"), f"the credential of {provider}")
    return ExitCode.OK
