"""Who is answered: somebody who waits on an inbox, and nothing else."""

from __future__ import annotations

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.users import User
from hogsend.service.requester import has_requester


def asked(reply: str) -> Msg:
    return Msg(_client=Client(), subject="hogsend.rpc.ingest.purge", reply=reply)


@pytest.mark.parametrize("prefix", ["_INBOX", *(inbox_prefix(user) for user in User)])
def test_who_waits_on_an_inbox_is_answered(prefix: str) -> None:
    assert has_requester(asked(f"{prefix}.x.1"))


@pytest.mark.parametrize(
    "reply",
    [
        *("", "$JS.ACK.EVENTS.zz.1.1.1.1.0", "$JS.FC.EVENTS.zz.x"),
        # Where a service may publish, and who asks it may not.
        *("hogsend.webhooks.posthog", "hogsend.events.x", "hogsend.deadletter.EVENTS"),
        *("$JS.API.STREAM.PURGE.EVENTS", "hogsend.rpc.ingest.purge", "x._INBOX_app.1"),
    ],
)
def test_an_answer_is_no_message_of_ours(reply: str) -> None:
    assert not has_requester(asked(reply))
