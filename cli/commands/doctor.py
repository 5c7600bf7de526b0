"""`hogsend doctor`: check a server and its PostHog side, and say how to fix what is wrong."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from cli.admin_client import AdminClient
from cli.console import err, print_json
from cli.doctor import report
from cli.doctor.checks import Verdict
from cli.doctor.examination import Unreachable, examine
from cli.errors import CommandError, CommandFailed
from cli.server_address import resolve
from cli.terminal import Terminal, print_hanging


def doctor(
    *,
    url: str | None = None,
    admin_key: str | None = None,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Examine a server; exits with 0 when it is healthy, 1 when not.

    Health needs no key. With an admin key, the server is also asked about its PostHog side:
    credential, person reads, webhook secret, destination, scopes, public URL.

    Parameters
    ----------
    url
        Address of the Hogsend server; HOGSEND_API_URL, else http://localhost:3002.
    admin_key
        Its admin key; HOGSEND_ADMIN_KEY or ADMIN_API_KEY, in the environment or ./.env.
    json
        Print one JSON document on stdout and nothing else.
    """
    try:
        address = resolve(url, admin_key)
    except CommandError as error:
        if not json:
            raise
        print_json(CommandFailed(error=str(error)))
        return 1
    terminal = Terminal(json=json)
    if address.is_plaintext and address.admin_key is not None:
        terminal.warn(
            f"{address.base_url} is plain http: the admin key travels unencrypted; use https"
        )
    try:
        with AdminClient(address) as client, terminal.busy(f"asking {address.base_url}"):
            examination = examine(client, address)
    except Unreachable as error:
        if json:
            print_json(report.NoReport(base_url=address.base_url, error=str(error)))
        else:
            print_hanging(err, ("unreachable: ", "bold red"), str(error))
            fix = "start it with `hogsend up`, or give the right address with --url"
            print_hanging(err, ("  fix: ", "bold"), fix)
        return 1
    if json:
        print_json(report.document(examination, address.base_url))
    else:
        report.show(examination, address.base_url)
    return 0 if examination.verdict is Verdict.OK else 1
