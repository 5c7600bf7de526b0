"""`hogsend contacts`: look at contacts, undo a merge, export and erase; see `docs/contacts.md`."""

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
from cli.asking import DEFAULT_SERVER, Server, ask
from cli.confirmation import confirmed, require_terminal
from cli.console import json_begins, out, print_json
from cli.contacts import report
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.redaction import printable
from cli.terminal import print_hanging
from hogsend.contract.contacts import ContactDetails, ContactList

Merge = Annotated[int, Parameter(validator=Number(gte=1, lt=2**63))]

_CONTACT_ID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

app = App(name="contacts", help="List and show contacts, undo a merge, export and erase a person.")


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """Where an export was written to."""

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

    In a pipe every contact is one line, its columns separated by tabs, its id at the end.

    Parameters
    ----------
    search
        What the email address, the first user id or the contact's id begins with, in any case.
    limit
        How many at most.
    before
        The position that the previous page printed.
    server
        The server, and the output format.
    """
    wanted = ContactQuery(order="created", search=search, limit=limit, before=before)
    page = ask(server, lambda client: client.contact_page(wanted))
    if server.json:
        print_json(page)
    else:
        report.show_page(page, first=before is None)
    return ExitCode.OK


@app.command
def show(key: Name, *, server: Server = DEFAULT_SERVER) -> int:
    """Show a contact, what it is known by, and the merges it comes from; exits with 1 without one.

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
            f'no contact is known as "{printable(key)}"',
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


@app.command
def erase(
    key: Name,
    *,
    yes: Flag = False,
    posthog: Flag = False,
    dry_run: Flag = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Erase everything about a person, here and on every stream, for ever; asks first.

    The contact is gone at once, its events and messages within some minutes. Erasing by the
    contact's id once more says how far it is.

    Parameters
    ----------
    key
        A user id, an email address, or the id of a contact.
    yes
        Do not ask.
    posthog
        Delete the person in PostHog first, with their events and recordings; if it refuses,
        nothing is erased here.
    dry_run
        Only count what would be erased.
    server
        The server, and the output format.
    """
    if not yes and not dry_run:
        require_terminal("an erasure", json=server.json)
    found = _one(key, server)
    if dry_run:
        preview = ask(server, lambda client: client.preview_erasure(found.id if found else key))
        if server.json:
            print_json(preview)
        else:
            report.show_preview(preview)
        return ExitCode.OK
    if found and not yes and not _confirmed(found):
        print_hanging(out, ("", ""), "nothing was erased")
        return ExitCode.FAILED
    contact_id = found.id if found else key
    erasure = ask(server, lambda client: client.erase_contact(contact_id, posthog=posthog))
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
    """Write everything about a person as one JSON document: on stdout, or into a file.

    The contact, what leads to it, its merges, events, messages on every stream, dead letters
    included, and what the audit trail says of it. The file is readable for you alone, and is there
    only when it is complete.

    Parameters
    ----------
    key
        A user id, an email address, or the id of a contact.
    output
        The file to write; one that exists is replaced, a device or a pipe is written to.
    server
        The server, and the output format.
    """
    found = _one(key, server)
    contact_id = found.id if found else key
    if output is None:
        json_begins()
        sys.stdout.flush()
        write = sys.stdout.buffer.write
        ask(server, lambda client: client.export_contact(contact_id, write))
        sys.stdout.buffer.flush()
        return ExitCode.OK
    try:
        size = _exported_to(output, contact_id, server)
    except OSError as error:
        raise CommandError(
            f"{output} cannot be written ({error.strerror})", "name another file with --output"
        ) from None
    if server.json:
        print_json(Exported(output=str(output), bytes=size))
    else:
        report.show_export(str(output), size)
    return ExitCode.OK


def _exported_to(output: Path, contact_id: str, server: Server) -> int:
    if output.exists() and not output.is_file():
        # A device or a pipe is written to: a file in its place would be something else.
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

    def write(part: bytes) -> None:
        nonlocal size
        size += file.write(part)

    ask(server, lambda client: client.export_contact(contact_id, write))
    return size


def _one(key: str, server: Server) -> ContactDetails | None:
    """The contact that is meant; None when `key` may be the id of one that is no more.

    Raises:
        CommandError: it leads to none, or to several.
    """
    found = ask(server, lambda client: client.contacts(key)).contacts
    if len(found) > 1:
        ids = ", ".join(contact.id for contact in found)
        raise CommandError(
            f"{printable(key)} leads to {len(found)} contacts",
            f"give the id of one of them: {ids}",
        )
    if not found and not _CONTACT_ID.fullmatch(key):
        raise CommandError(
            f'no contact is known as "{printable(key)}"',
            "give a user id, an email address, or the id of a contact, erased or not",
        )
    return found[0] if found else None


def _confirmed(contact: ContactDetails) -> bool:
    who = f"{contact.contact_key} ({contact.id})"
    return confirmed(f"Erase {who} and everything about them for ever?")


def _print(found: ContactList, server: Server) -> None:
    if server.json:
        print_json(found)
    else:
        report.show(found)
