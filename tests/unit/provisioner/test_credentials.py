"""The provisioner's client of the credentials service: its requests, and its cache."""

from __future__ import annotations

import pytest

from hogsend.contract.credentials import (
    POSTHOG,
    DerivedPayload,
    ProviderRef,
    PutDerived,
    TokenRequest,
    token_digest,
)
from hogsend.contract.errors import Unavailable
from hogsend.service.credential_watcher import CredentialWatcher
from services.provisioner.credentials import Credentials
from tests.unit.provisioner.fakes import FakeLink


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def watcher() -> CredentialWatcher:
    return CredentialWatcher(POSTHOG)


@pytest.fixture
def credentials(link: FakeLink, watcher: CredentialWatcher) -> Credentials:
    return Credentials(link, watcher)


async def test_a_run_requests_its_bearer_without_the_cache(
    credentials: Credentials, link: FakeLink
) -> None:
    assert (await credentials.cached_bearer(1)).token == "pha_1"
    assert (await credentials.bearer()).token == "pha_2"
    assert link.requests == [("token", TokenRequest(provider_id="posthog"))] * 2


async def test_a_bearer_is_requested_once_until_the_credential_changes(
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
    assert link.requests[-1] == (
        "token",
        TokenRequest(provider_id="posthog", rejected_sha256=token_digest("pha_1")),
    )
    assert (await credentials.cached_bearer(1)).token == "pha_2"
    assert "pha_1" not in str(link.requests)


async def test_a_service_that_hangs_times_out(credentials: Credentials, link: FakeLink) -> None:
    link.hangs = True
    with pytest.raises(Unavailable, match="in time"):
        await credentials.cached_bearer(0.01)


async def test_derived_payload_and_status_are_requested_for_posthog(
    credentials: Credentials, link: FakeLink
) -> None:
    payload = DerivedPayload(webhook_secret="s")
    assert (await credentials.derived()).state == "absent"
    assert (await credentials.status()).oauth == "present"
    await credentials.store_derived(payload)
    assert link.requests == [
        ("get-derived", ProviderRef(provider_id="posthog")),
        ("status", ProviderRef(provider_id="posthog")),
        ("put-derived", PutDerived(provider_id="posthog", payload=payload)),
    ]
