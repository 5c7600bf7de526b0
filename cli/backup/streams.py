"""Backup and restore of all JetStream streams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nats.aio.client import Client

from cli.backup.stream_snapshot import (
    Progress,
    StreamError,
    StreamResult,
    count_removed,
    delete,
    restore,
    save,
)
from hogsend.contract.streams import StreamName

SAVE_ATTEMPTS = 3
"""Attempts to save all streams without a replay of dead letters meanwhile."""
SAVING_ORDER = (
    StreamName.WEBHOOKS,
    StreamName.AUDIT,
    StreamName.ENGAGEMENT,
    StreamName.EVENTS,
    StreamName.PERSONS,
    StreamName.CREDENTIALS,
    StreamName.DEADLETTER,
)
"""In the direction of the messages: ingest consumes WEBHOOKS and ENGAGEMENT and publishes to EVENTS
and PERSONS, and messages that cannot be processed go to DEADLETTER."""


async def save_all(client: Client, directory: Path, progress: Progress) -> list[StreamResult]:
    """Save every stream, with every message that was accepted before this call.

    Streams are saved in the direction of the messages, and PostgreSQL must be saved after all of
    them. A message that moves on during the backup is then saved twice instead of never, and its id
    identifies it as a duplicate. Only a replayed dead letter moves in the other direction. If one
    was replayed meanwhile, all streams are saved again.

    Raises:
        StreamError: see `save`.
    """
    for _ in range(SAVE_ATTEMPTS):
        removed_before = await count_removed(client, StreamName.DEADLETTER)
        results = [await save(client, name, directory, progress) for name in SAVING_ORDER]
        if await count_removed(client, StreamName.DEADLETTER) == removed_before:
            return [result for result in results if result is not None]
    raise StreamError(
        "dead letters were replayed while the streams were saved",
        "run it again once the replay has ended",
    )


async def restore_all(
    client: Client, directory: Path, progress: Progress, *, copies: int | None = None
) -> list[StreamResult]:
    """Restore every stream of a backup, or none: a failure deletes those restored before it.

    Raises:
        StreamError: see `restore`; or there is no backup.
    """
    restored: list[StreamResult] = []
    try:
        for source in saved_streams(directory):
            result = await restore(client, source, progress, copies=copies)
            restored.append(result)
    except BaseException:
        for result in restored:
            await delete(client, result.stream)
        raise
    return restored


def saved_streams(directory: Path) -> Sequence[Path]:
    """Return the directories of the streams in a backup."""
    return sorted(file.parent for file in directory.glob("*/backup.json"))
