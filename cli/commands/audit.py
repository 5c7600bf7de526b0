"""`hogsend audit`: list the audit trail; see `docs/admin.md`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from cli.admin.messages import AuditQuery
from cli.audit import report
from cli.console import print_json
from cli.exit_codes import ExitCode
from cli.server_options import DEFAULT_SERVER, Server, request


def audit(
    *,
    action: str | None = None,
    actor: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 50,
    before: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> int:
    """List the audit trail: requests that may have changed something, newest first.

    In a pipe each request is one line with columns separated by tabs. The last two columns, the
    client's address and the request id, are printed in pipes only.

    Parameters
    ----------
    action
        Only requests with this action, for example provider-credentials.put.
    actor
        Only requests of this actor, for example full-admin or nats:operator.
    limit
        Maximum number of requests to list.
    before
        Continue a list: the position that the previous page printed.
    server
        The server, and the output format.
    """
    query = AuditQuery(action=action, actor=actor, limit=limit, before=before)
    page = request(server, lambda client: client.audit(query))
    if server.json:
        print_json(page)
    else:
        report.show_page(page, first=before is None)
    return ExitCode.OK
