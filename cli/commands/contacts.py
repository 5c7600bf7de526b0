"""`hogsend contacts`: look at contacts, and undo a merge; see `docs/contacts.md`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.asking import DEFAULT_SERVER, Server, ask
from cli.console import print_json
from cli.contacts import report
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.redaction import printable
from hogsend.contract.contacts import ContactList

Merge = Annotated[int, Parameter(validator=Number(gte=1, lt=2**63))]

app = App(name="contacts", help="Look at contacts, and undo a merge of two people.")


@app.command
def show(key: str, *, server: Server = DEFAULT_SERVER) -> int:
    """Show a contact, what it is known by, and the merges it comes from; exits with 1 for nobody.

    Parameters
    ----------
    key
        A user id, an email address, or the id of a contact.
    server
        The server, and the output format.
    """
    found = ask(server, lambda client: client.contacts(key))
    if not found.contacts:
        raise CommandError(
            f"{printable(key)} leads to no contact",
            "give a user id, an email address or a contact's id; `hogsend events list` shows some",
        )
    _print(found, server)
    return ExitCode.OK


@app.command
def split(merge: Merge, *, server: Server = DEFAULT_SERVER) -> int:
    """Undo a merge: two contacts again, which no event merges any more.

    A merge that is undone already stays as it is. Prints both contacts.

    Parameters
    ----------
    merge
        Number of the merge, as `show` prints it.
    server
        The server, and the output format.
    """
    _print(ask(server, lambda client: client.split_contacts(merge)), server)
    return ExitCode.OK


def _print(found: ContactList, server: Server) -> None:
    if server.json:
        print_json(found)
    else:
        report.show(found)
