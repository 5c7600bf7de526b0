"""`hogsend doctor`: check a server and its PostHog side, and say how to fix what is wrong."""

from __future__ import annotations

from cli.admin.client import AdminClient
from cli.asking import DEFAULT_SERVER, Server
from cli.console import print_json
from cli.doctor import report
from cli.doctor.checks import Verdict
from cli.doctor.examination import Unreachable, examine
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.server_address import resolve
from cli.terminal import Terminal


def doctor(*, server: Server = DEFAULT_SERVER) -> int:
    """Examine a server; exits with 0 when it is healthy, 1 when not.

    Health needs no key. With an admin key, the server is also asked about its PostHog side:
    credential, person reads, webhook secret, destination, signatures, scopes, public URL. It also
    counts dead letters.

    Parameters
    ----------
    server
        The server, and the output format.
    """
    address = resolve(server.url, server.admin_key)
    terminal = Terminal(json=server.json)
    terminal.warn_of_plaintext(address)
    try:
        with AdminClient(address) as client, terminal.busy(f"asking {address.base_url}"):
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
