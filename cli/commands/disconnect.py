"""`hogsend disconnect posthog`: delete the credential of the connected PostHog project."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from cli.admin.errors import AdminError
from cli.confirmation import confirm, require_terminal
from cli.console import err, out, print_hanging, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_address import resolve
from cli.server_options import DEFAULT_SERVER, Server, request

_QUESTION = (
    "Delete the credential and its webhook secret? Webhooks are refused until PostHog is connected "
    "again, unless POSTHOG_WEBHOOK_SECRET is set."
)

_NOTE = (
    "webhooks are refused from now on, unless POSTHOG_WEBHOOK_SECRET is set. To end the "
    "deliveries, disable the webhook destination in PostHog"
)


def disconnect(
    provider: Literal["posthog"],
    /,
    *,
    yes: Flag = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Delete the credential of the PostHog project and its webhook secret, after a confirmation.

    The webhook destination in PostHog stays; delete or disable it there. Exits with 1 if no project
    is connected.

    Parameters
    ----------
    provider
        What to disconnect: posthog.
    yes
        Skip the confirmation.
    server
        The server, and the output format.
    """
    if not yes:
        require_terminal("disconnecting", json=server.json)
        if not confirm(_QUESTION):
            print_hanging(out, ("", ""), "nothing was deleted")
            return ExitCode.FAILED
    try:
        deleted = request(server, lambda client: client.disconnect())
    except AdminError as error:
        # A 404 without `error` is not a response of Hogsend: the URL is another server's.
        if error.status != HTTPStatus.NOT_FOUND or error.code is None:
            raise
        base_url = resolve(server.url, server.admin_key).base_url
        raise CommandError(
            f"no credential of {provider} is stored at {base_url}",
            f"nothing to do; `hogsend connect {provider}` stores one",
        ) from None
    if server.json:
        print_json(deleted)
    else:
        print_hanging(out, ("deleted ", "bold green"), f"the credential of {provider}")
        print_hanging(err, ("note: ", "bold yellow"), _NOTE)
    return ExitCode.OK
