"""Which credentials may be stored, and how they are described: never with a token."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import msgspec
import pytest

from hogsend.contract.credentials import DerivedPayload, OAuthPayload
from hogsend.contract.errors import (
    CannotUnseal,
    GrantReplaced,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from hogsend.posthog.client_document import CLIENT_ID
from services.credentials.records import Snapshot
from tests.unit.credentials.conftest import Driver, Replica

DERIVED = DerivedPayload(webhook_secret="minted", project_api_key="phc_1", project_id="7")


async def test_a_grant_is_sealed_and_described_without_its_tokens(
    driver: Driver, replica: Replica
) -> None:
    grant = driver.grant(left=3600)
    meta = await replica.credentials.put_oauth("posthog", grant)
    assert await driver.stored() == grant
    assert await replica.credentials.meta("posthog") == meta
    row = (await driver.snapshot()).rows["oauth"]
    for secret in (grant.access_token, grant.refresh_token, grant.client_id):
        assert secret not in row.payload
        assert secret not in repr(meta)
    assert (meta.created_at, meta.updated_at) == (row.created_at, row.updated_at)
    assert (meta.scopes, meta.expires_at) == (grant.scopes, grant.expires_at)


async def test_a_grant_replaces_one_that_cannot_be_read(driver: Driver, replica: Replica) -> None:
    first = await driver.replica(secret="lost").credentials.put_oauth(
        "posthog", driver.grant(left=3600)
    )
    with pytest.raises(CannotUnseal, match="BETTER_AUTH_SECRET_PREVIOUS"):
        await replica.credentials.meta("posthog")
    assert (await replica.credentials.status("posthog")).oauth == "unreadable"
    second = await replica.credentials.put_oauth("posthog", driver.grant(left=7200))
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    assert (await replica.credentials.status("posthog")).oauth == "present"


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("/oauth/token/", "must be an absolute URL"),
        ("http://us.posthog.com/oauth/token/", "must be https"),
        ("ftp://127.0.0.1/oauth/token/", "must be https"),
        ("http://127.0.0.1/oauth/token/", "OUTBOUND_ALLOW"),
        ("https://10.0.0.1/oauth/token/", "OUTBOUND_ALLOW"),
        ("https://me:word@us.posthog.com/oauth/token/", "user or password"),
    ],
)
async def test_a_refresh_token_is_sent_only_to_allowed_endpoints(
    driver: Driver, replica: Replica, endpoint: str, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        await replica.credentials.put_oauth(
            "posthog", driver.grant(left=3600, token_endpoint=endpoint)
        )
    assert (await driver.snapshot()).version == 0


@pytest.mark.parametrize(
    ("allowed", "endpoint"),
    [
        ("posthog.internal", "http://posthog.internal/oauth/token/"),
        ("127.0.0.1", "http://localhost/oauth/token/"),
    ],
)
async def test_a_refresh_token_is_sent_unencrypted_only_to_hosts_that_the_operator_listed(
    driver: Driver, allowed: str, endpoint: str
) -> None:
    grant = driver.grant(left=3600, token_endpoint=endpoint)
    with pytest.raises(InvalidRequest):
        await driver.replica().credentials.put_oauth("posthog", grant)
    await driver.replica(allow=[allowed]).credentials.put_oauth("posthog", grant)
    assert await driver.stored() == grant


async def test_a_client_id_must_be_an_absolute_url(driver: Driver, replica: Replica) -> None:
    with pytest.raises(InvalidRequest, match="clientId"):
        await replica.credentials.put_oauth("posthog", driver.grant(left=3600, client_id="cli"))
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, client_id=CLIENT_ID))


@pytest.mark.parametrize("token", ["pha\n", "pha x\r\ny", "schl\u00fcssel", "pha\x00"])
async def test_an_access_token_that_is_no_valid_header_value_is_refused(
    driver: Driver, replica: Replica, token: str
) -> None:
    with pytest.raises(InvalidRequest, match="accessToken") as refused:
        await replica.credentials.put_oauth(
            "posthog", msgspec.structs.replace(driver.grant(left=3600), access_token=token)
        )
    assert token not in str(refused.value)
    assert (await driver.snapshot()).version == 0


async def test_the_derived_payload_is_replaced_as_a_whole(replica: Replica) -> None:
    await replica.credentials.put_derived("posthog", DERIVED)
    status = await replica.credentials.put_derived(
        "posthog", DerivedPayload(webhook_secret="second")
    )
    assert status.webhook_secret == "present"
    derived = await replica.credentials.derived("posthog")
    assert (derived.version, derived.payload) == (
        status.version,
        DerivedPayload(webhook_secret="second"),
    )


async def test_only_a_digest_of_the_webhook_secret_is_returned(replica: Replica) -> None:
    assert (await replica.credentials.webhook_secret("posthog")).state == "absent"
    await replica.credentials.put_derived("posthog", DERIVED)
    reply = await replica.credentials.webhook_secret("posthog")
    assert reply.sha256 == hashlib.sha256(b"minted").hexdigest()
    await replica.credentials.put_derived("posthog", DerivedPayload(project_id="7"))
    reply = await replica.credentials.webhook_secret("posthog")
    assert (reply.state, reply.sha256) == ("absent", None)


async def test_an_unreadable_webhook_secret_is_not_an_absent_one(driver: Driver) -> None:
    await driver.replica(secret="lost").credentials.put_derived("posthog", DERIVED)
    reply = await driver.replica().credentials.webhook_secret("posthog")
    assert (reply.state, reply.sha256) == ("unreadable", None)


async def test_the_previous_webhook_secret_is_returned_as_a_digest_with_its_end(
    driver: Driver, replica: Replica
) -> None:
    until = driver.clock.now + timedelta(days=1)
    payload = DerivedPayload(
        webhook_secret="minted", webhook_secret_previous="before", webhook_previous_until=until
    )
    await replica.credentials.put_derived("posthog", payload)
    reply = await replica.credentials.webhook_secret("posthog")
    assert reply.previous_sha256 == hashlib.sha256(b"before").hexdigest()
    assert reply.previous_until == until


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        (DERIVED, "absent"),
        (DerivedPayload(signing_secret="signs"), "present"),
        (DerivedPayload(signing_secret_previous="signed"), "present"),
        (DerivedPayload(signing_secret="signs", signing_secret_previous="signed"), "present"),
    ],
)
async def test_the_signing_keys_are_absent_only_without_a_current_and_a_previous_key(
    replica: Replica, payload: DerivedPayload, state: str
) -> None:
    assert (await replica.credentials.signing_secret("posthog")).state == "absent"
    await replica.credentials.put_derived("posthog", payload)
    reply = await replica.credentials.signing_secret("posthog")
    assert reply.state == state
    assert (reply.secret, reply.previous) == (
        payload.signing_secret,
        payload.signing_secret_previous,
    )


async def test_unreadable_signing_keys_are_not_absent_ones(driver: Driver) -> None:
    await driver.replica(secret="lost").credentials.put_derived("posthog", DERIVED)
    reply = await driver.replica().credentials.signing_secret("posthog")
    assert (reply.state, reply.secret) == ("unreadable", None)


async def test_deleting_removes_both_kinds_even_unreadable_ones(
    driver: Driver, replica: Replica
) -> None:
    lost = driver.replica(secret="lost").credentials
    await lost.put_oauth("posthog", driver.grant(left=3600))
    await lost.put_derived("posthog", DERIVED)
    await replica.credentials.delete("posthog")
    status = await replica.credentials.status("posthog")
    assert (status.oauth, status.webhook_secret) == ("absent", "absent")
    with pytest.raises(NotFound):
        await replica.credentials.delete("posthog")
    with pytest.raises(NotFound):
        await replica.credentials.meta("posthog")


async def test_a_version_is_not_reused_after_a_deletion(driver: Driver, replica: Replica) -> None:
    versions = []
    for _ in range(2):
        await replica.credentials.put_oauth("posthog", driver.grant(left=3600))
        versions.append((await replica.credentials.status("posthog")).version)
        await replica.credentials.delete("posthog")
        versions.append((await replica.credentials.status("posthog")).version)
    assert versions == sorted(set(versions))


async def test_the_status_reports_the_personal_key(driver: Driver) -> None:
    await driver.put(driver.grant(left=3600))
    status = await driver.replica(personal_key="phx_1").credentials.status("posthog")
    assert status.personal_key
    assert status.expires_at == driver.grant(left=3600).expires_at
    assert status.refresh_error is None
    assert not (await driver.replica().credentials.status("posthog")).personal_key


async def test_the_project_is_returned_with_the_grants_origin_and_without_secrets(
    driver: Driver, replica: Replica
) -> None:
    reply = await replica.credentials.project("posthog")
    assert (reply.state, reply.project_id, reply.grant_origin) == ("absent", None, None)
    assert reply.connected_at is None
    await driver.put(driver.grant(left=3600))
    await replica.credentials.put_derived("posthog", DERIVED)
    reply = await replica.credentials.project("posthog")
    assert (reply.state, reply.project_id, reply.project_api_key) == ("present", "7", "phc_1")
    assert reply.grant_origin == "https://us.posthog.com"
    assert "minted" not in str(msgspec.to_builtins(reply))


async def test_the_grants_origin_includes_the_path_prefix_of_its_posthog(
    driver: Driver, replica: Replica
) -> None:
    endpoint = "https://tools.example.com/posthog/oauth/token/"
    await driver.put(driver.grant(left=3600, token_endpoint=endpoint))
    reply = await replica.credentials.project("posthog")
    assert reply.grant_origin == "https://tools.example.com/posthog"


US = "https://us.posthog.com"
EU = "https://eu.posthog.com"
INSIDE = "http://posthog.internal:8000"


@pytest.mark.parametrize(
    ("before", "host", "grant", "teams", "stays"),
    [
        (US, US, US, [7], True),
        (US, US, US, [6, 7], True),
        (US, US, US, [8], False),
        # A grant that is not limited to some projects may cover the stored one.
        (US, US, US, [], True),
        (US, US, EU, [7], False),
        (US, US, EU, [], False),
        (US, f"{US}/", US, [7], True),
        # The host differs from PostHog's own URL.
        (US, INSIDE, US, [7], True),
        (US, INSIDE, EU, [7], False),
        # The project belongs to no grant (case 24).
        (None, US, US, [8], True),
        (None, US, EU, [7], True),
        # The project was stored for the new PostHog already.
        (US, EU, EU, [7], True),
        (US, EU, EU, [8], False),
        (US, None, US, [7], True),
        (US, None, EU, [7], False),
        (f"{US}/one", f"{US}/one", f"{US}/two", [7], False),
    ],
)
async def test_a_project_of_the_old_grant_only_is_deleted_with_it(
    driver: Driver,
    before: str | None,
    host: str | None,
    grant: str,
    *,
    teams: list[int],
    stays: bool,
) -> None:
    replica = driver.replica()

    def granted(host: str, teams: list[int]) -> OAuthPayload:
        endpoint = f"{host}/oauth/token/"
        return driver.grant(left=3600, token_endpoint=endpoint, scoped_teams=teams)

    if before is not None:
        await replica.credentials.put_oauth("posthog", granted(before, [7]))
    derived = msgspec.structs.replace(DERIVED, private_host=host, signing_secret="signs")
    await replica.credentials.put_derived("posthog", derived)
    await replica.credentials.put_oauth("posthog", granted(grant, teams))
    kept = derived
    if not stays:
        kept = DerivedPayload(webhook_secret="minted", signing_secret="signs")
    assert (await replica.credentials.derived("posthog")).payload == kept
    assert (await driver.stored()) == granted(grant, teams)
    change = driver.stream.changes[-1]
    assert (change.change, change.version) == ("stored", (await driver.snapshot()).version)
    assert change.changed_kinds == (["oauth"] if stays else ["derived", "oauth"])


async def test_a_project_that_no_grant_covered_is_kept(driver: Driver, replica: Replica) -> None:
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, scoped_teams=[8]))
    await replica.credentials.put_derived("posthog", DERIVED)
    await replica.credentials.put_oauth("posthog", driver.grant(left=7200, scoped_teams=[8]))
    assert (await replica.credentials.derived("posthog")).payload == DERIVED
    await replica.credentials.put_oauth("posthog", driver.grant(left=7200, scoped_teams=[9]))
    derived = await replica.credentials.derived("posthog")
    assert derived.payload == DerivedPayload(webhook_secret="minted")


async def test_a_concurrently_generated_secret_is_kept_when_the_project_is_deleted(
    driver: Driver, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, scoped_teams=[7]))
    await replica.credentials.put_derived("posthog", DERIVED)
    minted = msgspec.structs.replace(DERIVED, webhook_secret="second")
    load = driver.store.load

    async def load_then_store_another_secret(provider: str) -> Snapshot:
        snapshot = await load(provider)
        monkeypatch.undo()
        await replica.credentials.put_derived("posthog", minted)
        return snapshot

    monkeypatch.setattr(driver.store, "load", load_then_store_another_secret)
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, scoped_teams=[8]))
    derived = await replica.credentials.derived("posthog")
    assert derived.payload == DerivedPayload(webhook_secret="second")


async def test_a_concurrently_stored_project_is_deleted_with_its_grant(
    driver: Driver, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, scoped_teams=[7]))
    load = driver.store.load

    async def load_then_store_a_project(provider: str) -> Snapshot:
        snapshot = await load(provider)
        monkeypatch.undo()
        await replica.credentials.put_derived("posthog", DERIVED, snapshot.generation)
        return snapshot

    monkeypatch.setattr(driver.store, "load", load_then_store_a_project)
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, scoped_teams=[8]))
    derived = await replica.credentials.derived("posthog")
    assert derived.payload == DerivedPayload(webhook_secret="minted")


async def test_a_payload_derived_with_another_grant_is_not_stored(
    driver: Driver, replica: Replica
) -> None:
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, scoped_teams=[7]))
    generation = (await replica.credentials.status("posthog")).generation
    await replica.credentials.put_derived("posthog", DERIVED, generation)
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, scoped_teams=[8]))
    changes = len(driver.stream.changes)
    with pytest.raises(GrantReplaced):
        await replica.credentials.put_derived("posthog", DERIVED, generation)
    derived = await replica.credentials.derived("posthog")
    assert derived.payload == DerivedPayload(webhook_secret="minted")
    assert len(driver.stream.changes) == changes


async def test_a_project_that_cannot_be_read_is_not_changed(
    driver: Driver, replica: Replica
) -> None:
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, scoped_teams=[7]))
    await driver.replica(secret="lost").credentials.put_derived("posthog", DERIVED)
    before = (await driver.snapshot()).rows["derived"]
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600, scoped_teams=[8]))
    assert (await driver.snapshot()).rows["derived"] == before


async def test_every_change_is_published_before_its_call_returns(
    driver: Driver, replica: Replica
) -> None:
    await replica.credentials.put_oauth("posthog", driver.grant(left=3600))
    await replica.credentials.put_derived("posthog", DERIVED)
    await replica.credentials.delete("posthog")
    changes = [(change.change, change.changed_kinds) for change in driver.stream.changes]
    assert changes == [
        ("stored", ["oauth"]),
        ("stored", ["derived"]),
        ("deleted", ["derived", "oauth"]),
    ]


async def test_a_change_that_cannot_be_published_is_stored_and_published_later(
    driver: Driver, replica: Replica
) -> None:
    driver.stream.available = False
    with pytest.raises(Unavailable):
        await replica.credentials.put_oauth("posthog", driver.grant(left=3600))
    assert await driver.stored() == driver.grant(left=3600)
    driver.stream.available = True
    await replica.relay.relay_pending()
    assert [change.changed_kinds for change in driver.stream.changes] == [["oauth"]]
