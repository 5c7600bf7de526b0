"""`hogsend doctor`: check a server and its connection to PostHog, and print how to fix problems."""

from __future__ import annotations

from cli.admin.client import AdminClient
from cli.console import print_json
from cli.doctor import report
from cli.doctor.checks import Verdict
from cli.doctor.examination import Unreachable, examine
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.server_address import resolve
from cli.server_options import DEFAULT_SERVER, Server
from cli.terminal import Terminal


def doctor(*, server: Server = DEFAULT_SERVER) -> int:
    """Check a server and its connection to PostHog; exits with 0 if healthy, else with 1.

    The health of the server needs no key. With the admin key, the command also checks the
    connection to PostHog (credential, scopes, person reads, webhook secret, webhook destination,
    signatures, public URL) and counts dead letters.

    Parameters
    ----------
    server
        The server, and the output format.
    """
    address = resolve(server.url, server.admin_key)
    terminal = Terminal(json=server.json)
    terminal.warn_of_plaintext(address)
    try:
        with AdminClient(address) as client, terminal.busy(f"checking {address.base_url}"):
            examination = examine(client, address)
    except Unreachable as error:
        if not server.json:
            raise CommandError(f"unreachable: {error}", error.fix) from error
        print_json(report.NoReport(base_url=address.base_url, error=str(error), fix=error.fix))
        return ExitCode.FAILED
    if server.json:
        print_json(report.document(examination, address.base_url))
    else:
        report.show(examination, address.base_url)
    return ExitCode.OK if examination.verdict is Verdict.OK else ExitCode.FAILED
