"""`hogsend doctor`: is the server well, does PostHog reach it, and what is to be done."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from cli.connect.server import HogsendServer
from cli.connect.target import resolve
from cli.connect.verdicts import Broken
from cli.connect.voice import Voice, hanging
from cli.console import err, print_json
from cli.doctor import report
from cli.doctor.checks import Verdict
from cli.doctor.examination import Unreachable, examine
from cli.errors import CommandError


def doctor(
    *,
    url: str | None = None,
    admin_key: str | None = None,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Examine a server; exits with 0 when it is well, 1 when not.

    The server's health is asked for without a key. With one, the server is also asked about its
    PostHog side: credential, person reads, webhook secret, destination, scopes, public URL.

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
        target = resolve(url, admin_key)
    except CommandError as error:
        if not json:
            raise
        print_json(Broken(error=str(error)))
        return 1
    voice = Voice(json=json)
    if target.plaintext and target.admin_key is not None:
        voice.warn(f"{target.base_url} is plain http: the admin key travels unencrypted; use https")
    try:
        with HogsendServer(target) as server, voice.busy(f"asking {target.base_url}"):
            examination = examine(server, target)
    except Unreachable as error:
        if json:
            print_json(report.NoReport(base_url=target.base_url, error=str(error)))
        else:
            hanging(err, ("unreachable: ", "bold red"), str(error))
            fix = "start it with `hogsend up`, or name the right address with --url"
            hanging(err, ("  fix: ", "bold"), fix)
        return 1
    if json:
        print_json(report.document(examination, target.base_url))
    else:
        report.show(examination, target.base_url)
    return 0 if examination.verdict is Verdict.OK else 1
