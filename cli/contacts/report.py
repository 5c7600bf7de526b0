"""Print contacts with their properties, keys and merges; and exports and erasures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from rich.text import Text

from cli.console import err, out, print_hanging
from cli.redaction import printable
from cli.table import print_page_footer, print_rows
from hogsend.contract.contacts import (
    ContactDetails,
    ContactKey,
    ContactList,
    ContactMerge,
    ContactRecord,
    Erasure,
    ErasurePreview,
)
from hogsend.contract.directory import ContactPage

_KEY_KINDS = {"external": "user id", "email": "email key", "row": "merged id"}
_WIDTH = 12
_HEADINGS = ("first seen (UTC)", "last seen (UTC)", "key", "email")


def show_page(page: ContactPage, *, first: bool) -> None:
    """Print a page of contacts, and how to get the next page.

    Args:
        page: the page.
        first: whether it is the first page.
    """
    if page.contacts:
        rows = [_row(contact) for contact in page.contacts]
        piped = [[*_row(contact), contact.id] for contact in page.contacts]
        print_rows(_HEADINGS, rows, piped=piped)
    print_page_footer(
        len(page.contacts),
        page.total,
        "contact",
        estimated=page.total_estimated,
        first=first,
        before=page.next_before or None,
    )


def _row(contact: ContactRecord) -> list[str]:
    return [
        f"{contact.first_seen_at:%Y-%m-%d %H:%M:%S}",
        f"{contact.last_seen_at:%Y-%m-%d %H:%M:%S}",
        contact.contact_key,
        contact.email or "",
    ]


def show(contacts: ContactList) -> None:
    """Print contacts, separated by blank lines."""
    for number, contact in enumerate(contacts.contacts):
        if number:
            out.print()
        _show_contact(contact)


def _show_contact(contact: ContactDetails) -> None:
    rows = {
        "contact": f"{contact.contact_key} ({contact.id})",
        "email": contact.email or "none",
        "time zone": contact.timezone or "unknown",
        "first seen": _time(contact.first_seen_at),
        "last seen": _time(contact.last_seen_at),
    }
    for name, value in rows.items():
        print_hanging(out, (name.ljust(_WIDTH), "bold"), printable(value))
    properties = msgspec.json.format(msgspec.json.encode(contact.properties)).decode()
    out.print(Text(f"{'properties'.ljust(_WIDTH)}{printable(properties)}"), soft_wrap=True)
    for key in contact.keys:
        print_hanging(out, (_KEY_KINDS[key.kind].ljust(_WIDTH), "bold"), printable(key.value))
    if (omitted := contact.key_count - len(contact.keys)) > 0:
        print_hanging(err, ("", ""), f"{omitted} more keys are not shown")
    for merge in contact.merges:
        _show_merge(merge)


def _show_merge(merge: ContactMerge) -> None:
    text = f"{merge.id} on {_time(merge.at)}: {_names(merge.keys) or merge.contact_id}"
    if merge.split_at is not None:
        text = f"{text}; undone at {_time(merge.split_at)}"
    else:
        text = f"{text}; `hogsend contacts split {merge.id}` undoes it"
    print_hanging(out, ("merge".ljust(_WIDTH), "bold"), printable(text))


def _names(keys: Sequence[ContactKey]) -> str:
    return ", ".join(key.value for key in keys if key.kind != "row")


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def show_preview(preview: ErasurePreview) -> None:
    """Print what an erasure would delete."""
    rows = {
        "contact": preview.contact_id,
        "keys": str(preview.keys),
        "merges": str(preview.merges),
        "events": str(preview.events),
        "messages": ", ".join(f"{count} on {name}" for name, count in preview.messages.items())
        or "none",
    }
    for name, value in rows.items():
        print_hanging(out, (name.ljust(_WIDTH), "bold"), printable(value))
    print_hanging(
        out, ("", ""), "nothing was erased; without --dry-run all of this is permanently deleted"
    )


def show_export(file: str, size: int) -> None:
    """Print the file and size of an export."""
    print_hanging(out, ("exported".ljust(_WIDTH), "bold"), f"{size} bytes to {printable(file)}")


def show_erasure(erasure: Erasure) -> None:
    """Print the progress of an erasure."""
    if erasure.finished_at is None:
        state = f"in progress; `hogsend contacts erase {erasure.contact_id}` shows the progress"
    else:
        state = f"finished at {_time(erasure.finished_at)}"
    rows = {
        "erasure": f"{erasure.id} of contact {erasure.contact_id}",
        "state": state,
        "events": str(erasure.events),
        "messages": str(erasure.messages),
    }
    for name, value in rows.items():
        print_hanging(out, (name.ljust(_WIDTH), "bold"), printable(value))
