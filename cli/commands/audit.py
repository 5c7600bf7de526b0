"""`hogsend audit`: list what administrators changed; see `docs/admin.md`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from cli.admin.messages import AuditQuery
from cli.asking import DEFAULT_SERVER, Server, ask
from cli.audit import report
from cli.console import print_json
from cli.exit_codes import ExitCode


def audit(
    *,
    action: str | None = None,
    actor: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 50,
    before: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> int:
    """List requests that may have changed something, the latest first.

    In a pipe every entry is one line, its columns separated by tabs, with the address it came from
    and the request's id at the end.

    Parameters
    ----------
    action
        Only this action, for example provider-credentials.put.
    actor
        Only those of this actor, for example full-admin or nats:operator.
    limit
        How many at most.
    before
        The position that the previous page printed.
    server
        The server, and the output format.
    """
    wanted = AuditQuery(action=action, actor=actor, limit=limit, before=before)
    page = ask(server, lambda client: client.audit(wanted))
    if server.json:
        print_json(page)
    else:
        report.show_page(page, first=before is None)
    return ExitCode.OK
