"""`hogsend doctor`: check a server and its PostHog side, and say how to fix what is wrong."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from cli.admin_client import AdminClient
from cli.console import print_json
from cli.doctor import report
from cli.doctor.checks import Verdict
from cli.doctor.examination import Unreachable, examine
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.server_address import resolve
from cli.terminal import Terminal


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
    address = resolve(url, admin_key)
    terminal = Terminal(json=json)
    terminal.warn_of_plaintext(address)
    try:
        with AdminClient(address) as client, terminal.busy(f"asking {address.base_url}"):
            examination = examine(client, address)
    except Unreachable as error:
        if not json:
            raise CommandError(f"unreachable: {error}", error.fix) from error
        print_json(report.NoReport(base_url=address.base_url, error=str(error), fix=error.fix))
        return ExitCode.FAILED
    if json:
        print_json(report.document(examination, address.base_url))
    else:
        report.show(examination, address.base_url)
    return ExitCode.OK if examination.verdict is Verdict.OK else ExitCode.FAILED
