"""The order of published changes when several replicas publish without a lock."""

from __future__ import annotations

from hogsend.contract import subjects
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from services.credentials.change_stream import JetStreamChanges
from tests.integration.harness import connected
from tests.messages import credential_change as change
from tests.servers import Servers


async def test_a_change_without_a_lock_never_follows_a_change_of_another_replica(
    servers: Servers, fresh_bus: None
) -> None:
    async with (
        connected(servers, User.OPERATOR) as operator,
        connected(servers, User.CREDENTIALS) as one_bus,
        connected(servers, User.CREDENTIALS) as other_bus,
    ):
        await streams.reconcile(operator.js, User.CREDENTIALS)
        first, second = JetStreamChanges(one_bus), JetStreamChanges(other_bus)
        assert not await first.publish_next(change(1)), "the last published change is unknown"
        await first.publish(change(1))
        assert await first.publish_next(change(2))
        await second.publish(change(4))
        assert not await first.publish_next(change(3)), "an older change after a newer one"
        assert not await first.publish_next(change(5)), (
            "the last published change is no longer known"
        )
        assert await second.publish_next(change(5))
        assert not await second.publish_next(change(4)), "this process has published a newer change"
        subject = subjects.credential_changed("posthog")
        last = await operator.js.get_last_msg(StreamName.CREDENTIALS, subject)
        assert b'"version":5' in (last.data or b"")
