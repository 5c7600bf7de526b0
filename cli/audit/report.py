"""Print the audit trail."""

from __future__ import annotations

from cli.table import print_page_footer, print_rows
from hogsend.contract.audit import AuditEntry, AuditPage

_HEADINGS = ("at (UTC)", "actor", "action", "status", "resource")


def show_page(page: AuditPage, *, first: bool) -> None:
    """Print a page of requests, and how to get the next page.

    Args:
        page: the page.
        first: whether it is the first page.
    """
    if page.entries:
        rows = [_row(entry) for entry in page.entries]
        # Address and request id do not fit into 80 columns.
        piped = [[*_row(entry), entry.address, entry.request_id] for entry in page.entries]
        print_rows(_HEADINGS, rows, piped=piped)
    print_page_footer(
        len(page.entries),
        page.total,
        "request",
        estimated=page.total_estimated,
        first=first,
        before=page.next_before,
    )


def _row(entry: AuditEntry) -> list[str]:
    return [
        f"{entry.at:%Y-%m-%d %H:%M:%S}",
        entry.actor,
        entry.action,
        str(entry.status),
        entry.resource,
    ]
