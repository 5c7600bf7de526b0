"""Refused subjects: futures of waiting calls, and the server's quoting."""

from __future__ import annotations

import pytest

from hogsend.contract.permissions import inbox_prefix
from hogsend.transport.connection import Connection


async def test_a_subjects_future_is_kept_while_a_call_waits() -> None:
    connection = Connection("subscriber", "nats://127.0.0.1:4222")
    waiting = connection.refusals.of("$JS.API.CONSUMER.INFO.EVENTS.mine")
    assert connection.refusals.of("$js.api.consumer.info.events.mine") is waiting
    for number in range(100):
        connection.refusals.of(f"$JS.API.CONSUMER.INFO.EVENTS.{number}")
    assert len(connection.refusals._publishing) == 1


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("plain", "plain"),
        ('say"hi', r"say\"hi"),
        ('back\\slash\\"', r"back\\slash\\\""),
        ("no\u00a0break", r"no\u00a0break"),
        ("\U000e0041b", r"\u000e0041b"),
        ("rung\x07\x7f", r"rung\a\x7f"),
    ],
)
async def test_a_refused_subject_is_unquoted(name: str, quoted: str) -> None:
    refusals = Connection("subscriber", "nats://127.0.0.1:4222").refusals
    publishing = refusals.of(f"$JS.API.CONSUMER.INFO.EVENTS.{name}")
    subscribing = refusals.of_subscription(f"hogsend.{name}")
    refusals.process_error(
        f'nats: permissions violation for publish to "$js.api.consumer.info.events.{quoted}"'
    )
    refusals.process_error(f'nats: permissions violation for subscription to "hogsend.{quoted}"')
    assert publishing.done()
    assert subscribing.done()


async def test_only_a_refused_inbox_of_its_own_fails_the_other_calls_of_a_user() -> None:
    connection = Connection("subscriber", "nats://127.0.0.1:4222")
    refusals = connection.refusals
    refused = "nats: permissions violation for subscription to"
    waiting = refusals.of("hogsend.rpc.ingest.events")
    for subject in ("hogsend.events.x", "_inbox.x", f"{inbox_prefix('app')}.x".lower()):
        refusals.process_error(f'{refused} "{subject}"')
    assert not waiting.done()
    assert "may not publish to hogsend.rpc" in str(refusals.error("hogsend.rpc.ingest.events"))

    inbox = f"{inbox_prefix('subscriber')}.>"
    refusals.process_error(f'{refused} "{inbox.lower()}"')
    assert waiting.done()
    assert f"may not subscribe to {inbox}" in str(refusals.error("hogsend.rpc.ingest.events"))
    assert inbox in connection.publisher._acks_refused

    # The next server may have other permissions.
    refusals.reset()
    assert not refusals.subscriptions
    assert "may not publish" in str(refusals.error("hogsend.rpc.ingest.events"))
    assert not connection.publisher._acks_refused
