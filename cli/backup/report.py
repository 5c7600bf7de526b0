"""What `backup` and `restore` print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cli.backup.streams import Done, Progress
from cli.backup.whole import Manifest
from cli.console import counted, err, out, print_json
from cli.terminal import print_hanging


class Report(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    directory: str
    manifest: Manifest


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """Show what is being saved or restored."""
    with err.status(what) as status:

        def progress(part: str, size: int) -> None:
            amount = f", {size / 1024 / 1024:.1f} MiB" if size else ""
            status.update(f"{what} {part}{amount}")

        yield progress


def report(manifest: Manifest, directory: Path, what: str, *, json: bool) -> int:
    """Print what is in a backup, and what is not."""
    if manifest.spooled != 0:
        left = "whatever waited" if manifest.spooled is None else f"{manifest.spooled} webhooks"
        why = "a gateway did not say how much; " if manifest.spooled is None else ""
        err.print(
            f"[yellow]note:[/] {left} in a gateway's spool is not in the backup ({why}`/readyz` "
            "has `spooled`). Keep the spool, or back up again once it is empty",
            soft_wrap=True,
        )
    if json:
        print_json(Report(str(directory), manifest))
        return 0
    for one in manifest.streams:
        show_stream(one)
    out.print(
        f"{counted(len(manifest.streams), 'stream')}, PostgreSQL and "
        f"{counted(len(manifest.files), 'file')} with "
        f"settings and secrets {what} {directory}",
        soft_wrap=True,
    )
    return 0


def show_notes(notes: Sequence[str]) -> None:
    """Print on stderr what the operator should know once a backup is restored."""
    for note in notes:
        print_hanging(err, ("note: ", "bold yellow"), note)


def show_stream(done: Done) -> None:
    """Print how much of a stream was saved or restored."""
    messages = counted(done.messages, "message")
    out.print(f"{done.stream:<12}{messages:>18}{done.bytes / 1024:>11.1f} KiB")
