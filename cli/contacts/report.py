"""Print contacts: their keys, what is known about them, and the merges they come from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from rich.text import Text

from cli.console import err, out
from cli.redaction import printable
from cli.table import print_rest, print_rows
from cli.terminal import print_hanging
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

_KINDS = {"external": "user id", "email": "address", "row": "was contact"}
_WIDTH = 12
_HEADINGS = ("first seen (UTC)", "last seen (UTC)", "known as", "email")


def show_page(page: ContactPage, *, first: bool) -> None:
    """Print a page of contacts, and how to get the next one.

    Args:
        page: what the server answered.
        first: whether it is the first page.
    """
    if page.contacts:
        rows = [_row(contact) for contact in page.contacts]
        piped = [[*_row(contact), contact.id] for contact in page.contacts]
        print_rows(_HEADINGS, rows, piped=piped)
    print_rest(
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


def show(found: ContactList) -> None:
    """Print contacts one below the other."""
    for number, contact in enumerate(found.contacts):
        if number:
            out.print()
        _show_one(contact)


def _show_one(contact: ContactDetails) -> None:
    rows = {
        "contact": f"{contact.contact_key} ({contact.id})",
        "email": contact.email or "none",
        "time zone": contact.timezone or "not known",
        "first seen": _time(contact.first_seen_at),
        "last seen": _time(contact.last_seen_at),
    }
    for name, value in rows.items():
        print_hanging(out, (name.ljust(_WIDTH), "bold"), printable(value))
    properties = msgspec.json.format(msgspec.json.encode(contact.properties)).decode()
    out.print(Text(f"{'properties'.ljust(_WIDTH)}{printable(properties)}"), soft_wrap=True)
    for key in contact.keys:
        print_hanging(out, (_KINDS[key.kind].ljust(_WIDTH), "bold"), printable(key.value))
    if (left_out := contact.key_count - len(contact.keys)) > 0:
        print_hanging(err, ("", ""), f"{left_out} more keys")
    for merge in contact.merges:
        _show_merge(merge)


def _show_merge(merge: ContactMerge) -> None:
    what = f"{merge.id} on {_time(merge.at)}: {_names(merge.keys) or merge.contact_id}"
    if merge.split_at is not None:
        what = f"{what}; split on {_time(merge.split_at)}"
    else:
        what = f"{what}; `hogsend contacts split {merge.id}` undoes it"
    print_hanging(out, ("merge".ljust(_WIDTH), "bold"), printable(what))


def _names(keys: Sequence[ContactKey]) -> str:
    return ", ".join(key.value for key in keys if key.kind != "row")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


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
        out, ("", ""), "nothing was erased; without --dry-run all of this is deleted for good"
    )


def show_export(file: str, size: int) -> None:
    """Print where an export was written to."""
    print_hanging(out, ("exported".ljust(_WIDTH), "bold"), f"{size} bytes to {printable(file)}")


def show_erasure(erasure: Erasure) -> None:
    """Print how far an erasure is."""
    if erasure.finished_at is None:
        state = f"recorded; `hogsend contacts erase {erasure.contact_id}` says how far it is"
    else:
        state = f"finished {_time(erasure.finished_at)}"
    rows = {
        "erasure": f"{erasure.id} of contact {erasure.contact_id}",
        "state": state,
        "events": str(erasure.events),
        "messages": str(erasure.messages),
    }
    for name, value in rows.items():
        print_hanging(out, (name.ljust(_WIDTH), "bold"), printable(value))
