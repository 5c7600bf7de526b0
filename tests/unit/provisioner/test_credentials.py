"""The provisioner's client of the credentials service: what it asks, and when it asks again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hogsend.contract.credentials import (
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_STATUS,
    CREDENTIALS_TOKEN,
    CredentialStatus,
    DerivedPayload,
    DerivedReply,
    ProviderRef,
    PutDerived,
    TokenReply,
    TokenRequest,
    token_digest,
)
from hogsend.contract.errors import Unavailable
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.transport.connection import Connection
from services.provisioner.credentials import PROVIDER, Credentials

TOMORROW = datetime.now(UTC) + timedelta(days=1)


class FakeLink(Connection):
    """A connection to a credentials service that answers with the next version each time."""

    def __init__(self) -> None:
        super().__init__(User.PROVISIONER, "nats://127.0.0.1:4222")
        self.asked: list[tuple[str, Any]] = []
        self.hangs = False

    async def request(
        self,
        endpoint: Endpoint[Request, Reply],
        message: Request,
        **_options: Any,
    ) -> Reply:
        self.asked.append((endpoint.verb, message))
        if self.hangs:
            await asyncio.Event().wait()
        version = len(self.asked)
        token = f"pha_{version}"
        replies: dict[str, Any] = {
            CREDENTIALS_TOKEN.verb: TokenReply(
                source="oauth", version=version, token=token, expires_at=TOMORROW
            ),
            CREDENTIALS_GET_DERIVED.verb: DerivedReply(version=version, state="absent"),
            CREDENTIALS_STATUS.verb: CredentialStatus(
                version=version, oauth="present", scopes=[], webhook_secret="absent"
            ),
            CREDENTIALS_PUT_DERIVED.verb: CredentialStatus(
                version=version, oauth="present", scopes=[], webhook_secret="present"
            ),
        }
        reply: Reply = replies[endpoint.verb]
        return reply


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def watcher() -> CredentialWatcher:
    return CredentialWatcher(PROVIDER)


@pytest.fixture
def credentials(link: FakeLink, watcher: CredentialWatcher) -> Credentials:
    return Credentials(link, watcher)


async def test_a_run_asks_for_its_bearer_whatever_is_cached(
    credentials: Credentials, link: FakeLink
) -> None:
    assert (await credentials.cached_bearer(1)).token == "pha_1"
    assert (await credentials.bearer()).token == "pha_2"
    assert link.asked == [("token", TokenRequest(provider_id="posthog"))] * 2


async def test_a_cached_bearer_is_asked_for_once_until_the_credential_changes(
    credentials: Credentials, link: FakeLink, watcher: CredentialWatcher
) -> None:
    assert credentials.version is None
    for _ in range(3):
        assert (await credentials.cached_bearer(1)).token == "pha_1"
    assert credentials.version == 1
    watcher.changed(None)
    assert (await credentials.cached_bearer(1)).token == "pha_2"
    assert credentials.version == 2


async def test_a_rejected_bearer_is_named_by_its_digest_and_replaced_in_the_cache(
    credentials: Credentials, link: FakeLink
) -> None:
    await credentials.cached_bearer(1)
    assert (await credentials.replace_bearer("pha_1")).token == "pha_2"
    assert link.asked[-1] == (
        "token",
        TokenRequest(provider_id="posthog", rejected_sha256=token_digest("pha_1")),
    )
    assert (await credentials.cached_bearer(1)).token == "pha_2"
    assert "pha_1" not in str(link.asked)


async def test_a_service_that_hangs_is_given_up_in_time(
    credentials: Credentials, link: FakeLink
) -> None:
    link.hangs = True
    with pytest.raises(Unavailable, match="in time"):
        await credentials.cached_bearer(0.01)


async def test_derived_payload_and_status_are_posthogs(
    credentials: Credentials, link: FakeLink
) -> None:
    payload = DerivedPayload(webhook_secret="s")
    assert (await credentials.derived()).state == "absent"
    assert (await credentials.status()).oauth == "present"
    await credentials.store_derived(payload)
    assert link.asked == [
        ("get-derived", ProviderRef(provider_id="posthog")),
        ("status", ProviderRef(provider_id="posthog")),
        ("put-derived", PutDerived(provider_id="posthog", payload=payload)),
    ]
