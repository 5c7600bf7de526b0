"""The output of `backup` and `restore`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cli.backup.archive import Manifest
from cli.backup.stream_snapshot import Progress, StreamResult
from cli.console import err, out, print_hanging, print_json, quantity


class Report(msgspec.Struct, frozen=True):
    """The JSON document of `backup` and `restore`."""

    directory: str
    manifest: Manifest


@contextmanager
def show_progress(action: str) -> Iterator[Progress]:
    """Show the progress of `action`, for example "saving"."""
    with err.status(action) as status:

        def progress(part: str, size: int) -> None:
            amount = f", {size / 1024 / 1024:.1f} MiB" if size else ""
            status.update(f"{action} {part}{amount}")

        yield progress


def report(manifest: Manifest, directory: Path, action: str, *, json: bool) -> int:
    """Print the content of a backup, and what it lacks.

    Args:
        manifest: of the backup.
        directory: of the backup.
        action: "saved to" or "restored from".
        json: whether to print JSON.
    """
    if manifest.spooled != 0:
        missing = (
            "Webhooks that wait in a gateway's spool are not in the backup; a gateway did not "
            "report how many"
            if manifest.spooled is None
            else f"{manifest.spooled} webhooks in a gateway's spool are not in the backup"
        )
        print_hanging(
            err,
            ("note: ", "bold yellow"),
            f"{missing} (`spooled` of its `/readyz`). Keep the spool, or back up again once it is "
            "empty",
        )
    if json:
        print_json(Report(str(directory), manifest))
        return 0
    for result in manifest.streams:
        show_stream(result)
    out.print(
        f"{quantity(len(manifest.streams), 'stream')}, PostgreSQL and "
        f"{quantity(len(manifest.files), 'file')} with "
        f"settings and secrets {action} {directory}",
        soft_wrap=True,
    )
    return 0


def show_notes(notes: Sequence[str]) -> None:
    """Print the notes of a restore on stderr."""
    for note in notes:
        print_hanging(err, ("note: ", "bold yellow"), note)


def show_stream(result: StreamResult) -> None:
    """Print the number of messages and bytes of a stream that was saved or restored."""
    messages = quantity(result.messages, "message")
    out.print(f"{result.stream:<12}{messages:>18}{result.bytes / 1024:>11.1f} KiB")
