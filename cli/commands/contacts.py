"""`hogsend contacts`: show contacts, undo merges, export and erase; see `docs/contacts.md`."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.admin.messages import ContactQuery
from cli.arguments import Name
from cli.confirmation import confirm, require_terminal
from cli.console import mark_json_started, out, print_hanging, print_json
from cli.contacts import report
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.redaction import printable
from cli.server_options import DEFAULT_SERVER, Server, request
from hogsend.contract.contacts import ContactDetails, ContactList

Merge = Annotated[int, Parameter(validator=Number(gte=1, lt=2**63))]

_CONTACT_ID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

app = App(name="contacts", help="List and show contacts, undo a merge, export and erase a person.")


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document of an export to a file."""

    output: str
    bytes: int


@app.command(name="list")
def list_(
    *,
    search: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 50,
    before: str | None = None,
    server: Server = DEFAULT_SERVER,
) -> int:
    """List contacts, newest first.

    In a pipe each contact is one line with columns separated by tabs. The last column, the
    contact's id, is printed in pipes only.

    Parameters
    ----------
    search
        Only contacts whose email address, first user id or contact id starts with this text,
        ignoring case.
    limit
        Maximum number of contacts to list.
    before
        Continue a list: the position that the previous page printed.
    server
        The server, and the output format.
    """
    query = ContactQuery(order="created", search=search, limit=limit, before=before)
    page = request(server, lambda client: client.contact_page(query))
    if server.json:
        print_json(page)
    else:
        report.show_page(page, first=before is None)
    return ExitCode.OK


@app.command
def show(key: Name, *, server: Server = DEFAULT_SERVER) -> int:
    """Show a contact with its keys and the merges it comes from; exits with 1 if there is none.

    Parameters
    ----------
    key
        User id, email address, or id of the contact.
    server
        The server, and the output format.
    """
    matches = request(server, lambda client: client.contacts(key))
    if not matches.contacts:
        raise CommandError(
            f'no contact has the key "{printable(key)}"',
            "give a user id, an email address or a contact's id; see `hogsend contacts list`",
        )
    _print(matches, server)
    return ExitCode.OK


@app.command
def split(merge: Merge, *, server: Server = DEFAULT_SERVER) -> int:
    """Undo a merge: split one contact into two, and keep later events from merging them again.

    Prints both contacts. A merge that was undone before is left unchanged.

    Parameters
    ----------
    merge
        Number of the merge, as `hogsend contacts show` prints it.
    server
        The server, and the output format.
    """
    _print(request(server, lambda client: client.split_contacts(merge)), server)
    return ExitCode.OK


@app.command
def erase(
    key: Name,
    *,
    yes: Flag = False,
    posthog: Flag = False,
    dry_run: Flag = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Permanently erase everything about a person, after a confirmation.

    Deletes the contact at once, and its events and its messages on all streams within minutes. To
    see the progress, run the command again with the contact's id.

    Parameters
    ----------
    key
        User id, email address, or id of the contact.
    yes
        Skip the confirmation.
    posthog
        First delete the person in PostHog, with their events and recordings. If PostHog refuses,
        nothing is erased.
    dry_run
        Only count what would be erased.
    server
        The server, and the output format.
    """
    if not yes and not dry_run:
        require_terminal("an erasure", json=server.json)
    contact = _find(key, server)
    # An erased contact no longer exists, but its id still identifies its erasure.
    contact_id = contact.id if contact else key
    if dry_run:
        preview = request(server, lambda client: client.preview_erasure(contact_id))
        if server.json:
            print_json(preview)
        else:
            report.show_preview(preview)
        return ExitCode.OK
    if contact and not yes and not _is_confirmed(contact):
        print_hanging(out, ("", ""), "nothing was erased")
        return ExitCode.FAILED
    erasure = request(server, lambda client: client.erase_contact(contact_id, posthog=posthog))
    if server.json:
        print_json(erasure)
    else:
        report.show_erasure(erasure)
    return ExitCode.OK


@app.command
def export(
    key: Name,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Write everything about a person as one JSON document, to stdout or to a file.

    The document has the contact with its keys and merges, its events, its messages on all streams
    and in dead letters, and its entries in the audit trail. A file is readable only by you, and is
    created only once the export is complete.

    Parameters
    ----------
    key
        User id, email address, or id of the contact.
    output
        File to write. An existing file is replaced; a device or a named pipe is written to.
    server
        The server, and the output format.
    """
    contact = _find(key, server)
    contact_id = contact.id if contact else key
    if output is None:
        mark_json_started()
        sys.stdout.flush()
        write = sys.stdout.buffer.write
        request(server, lambda client: client.export_contact(contact_id, write))
        sys.stdout.buffer.flush()
        return ExitCode.OK
    try:
        size = _export_to(output, contact_id, server)
    except OSError as error:
        raise CommandError(
            f"{output} cannot be written ({error.strerror})", "pass another file as --output"
        ) from None
    if server.json:
        print_json(Exported(output=str(output), bytes=size))
    else:
        report.show_export(str(output), size)
    return ExitCode.OK


def _export_to(output: Path, contact_id: str, server: Server) -> int:
    if output.exists() and not output.is_file():
        # Its reader waits on the device or pipe itself, so it must not be replaced by a file.
        with output.open("wb") as device:
            return _write_export(device, contact_id, server)
    target = Path(os.path.realpath(output))
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            size = _write_export(file, contact_id, server)
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return size


def _write_export(file: BinaryIO, contact_id: str, server: Server) -> int:
    size = 0

    def write(chunk: bytes) -> None:
        nonlocal size
        size += file.write(chunk)

    request(server, lambda client: client.export_contact(contact_id, write))
    return size


def _find(key: str, server: Server) -> ContactDetails | None:
    """Return the contact with this key; None if `key` has the form of a contact's id.

    An erased contact no longer exists, but its id still identifies its erasure.

    Raises:
        CommandError: no contact or several contacts have this key.
    """
    matches = request(server, lambda client: client.contacts(key)).contacts
    if len(matches) > 1:
        ids = ", ".join(contact.id for contact in matches)
        raise CommandError(
            f"{len(matches)} contacts have the key {printable(key)}",
            f"give the id of one of them: {ids}",
        )
    if not matches and not _CONTACT_ID.fullmatch(key):
        raise CommandError(
            f'no contact has the key "{printable(key)}"',
            "give a user id, an email address or a contact's id; see `hogsend contacts list`",
        )
    return matches[0] if matches else None


def _is_confirmed(contact: ContactDetails) -> bool:
    name = f"{contact.contact_key} ({contact.id})"
    return confirm(f"Permanently erase {name} and everything about this person?")


def _print(contacts: ContactList, server: Server) -> None:
    if server.json:
        print_json(contacts)
    else:
        report.show(contacts)
