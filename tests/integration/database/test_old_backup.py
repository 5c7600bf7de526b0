"""A backup in format 1, the first supported format, is restored by this version.

`hogsend backup` at commit 2eb76902 wrote `tests/fixtures/backup-format-1`, from a stack with three
stored events, two webhooks that were queued while ingest was stopped, a dead letter and a
destination. The fixture must not change as long as format 1 is supported. Its secrets were used
only by that stack.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import asyncpg
import pytest
from nats.js.api import RetentionPolicy

from cli.backup.archive import Key, restore_backup
from cli.backup.external_servers import ExternalServersTarget
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from services.analytics.destinations.durable import destination_durable
from services.analytics.destinations.store import DestinationStore
from tests.integration.harness import analytics_service, connected
from tests.integration.ingest.driver import ingest_service
from tests.servers import Servers
from tests.waiting import eventually

BACKUP = Path(__file__).parents[2] / "fixtures" / "backup-format-1"
PASSPHRASE = "correct horse battery staple"

pytestmark = pytest.mark.usefixtures("fresh_bus")


async def test_a_backup_of_format_1_is_restored_and_upgraded(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    backup = shutil.copytree(BACKUP, tmp_path / "backup")
    home = tmp_path / "home"
    target = ExternalServersTarget(home, servers.nats_url(User.OPERATOR), database_url)
    manifest = await restore_backup(
        target, backup, Key(passphrase=PASSPHRASE), lambda _part, _size: None
    )
    assert (manifest.format, manifest.spooled, target.notes) == (1, None, [])
    assert len((home / "secrets" / "better-auth-secret").read_text().strip()) >= 32
    rows = await asyncpg.connect(database_url)
    async with (
        connected(servers, User.OPERATOR) as operator,
        ingest_service(servers, database_url),
        analytics_service(servers, database_url, posthog={}) as analytics,
    ):

        async def stored_ids() -> set[str]:
            return {row["id"] for row in await rows.fetch("SELECT id FROM ingest.events")}

        expected = {*(f"stored-{n}" for n in range(3)), *(f"waiting-{n}" for n in range(2))}

        async def are_stored() -> bool:
            return await stored_ids() == expected

        # The queued messages were in flight at ingest, and are redelivered after its `ack_wait`.
        await eventually(are_stored, 60)
        letters = await operator.js.stream_info(StreamName.DEADLETTER)
        assert letters.state.messages == 1
        (destination,) = await DestinationStore(analytics.database).all()
        assert (destination.event_types, destination.config.api_key) == (
            ["email.opened"],
            "phc_of_the_fixture",
        )

        async def has_consumer() -> bool:
            consumers = await operator.js.consumers_info(StreamName.ENGAGEMENT)
            return destination_durable(destination.id) in {consumer.name for consumer in consumers}

        await eventually(has_consumer)
        # That version used interest retention, which does not store messages without a consumer.
        engagement = await operator.js.stream_info(StreamName.ENGAGEMENT)
        assert engagement.config.retention == RetentionPolicy.LIMITS
    await rows.close()
