"""A provisioning run from request to reply: preconditions, lock, secret, PostHog (12.3)."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from hogsend.contract.credentials import DerivedPayload, TokenReply
from hogsend.contract.errors import GrantReplaced, HogsendError, Unavailable
from hogsend.contract.provisioning import (
    PROVISIONER_PROVISION,
    ProvisionLoop,
    ProvisionReply,
    Refusal,
)
from hogsend.contract.webhooks import SECRET_HEADER
from services.provisioner.credentials import PinnedGrant
from services.provisioner.destination import provisioning, store
from services.provisioner.destination.signing_secret import SigningSecrets
from services.provisioner.destination.webhook_secret import WebhookSecrets
from tests.destinations import PLACEHOLDER_URL, SECRET, WEBHOOK_URL, compliant
from tests.posthog_recorder import Recorded, Recorder
from tests.unit.provisioner.fakes import POSTHOG_URL, InMemoryProvisioner, compose
from tests.waiting import eventually

LOOPBACK = "http://localhost:3002"


async def run(provisioner: InMemoryProvisioner, **options: Any) -> ProvisionReply:
    return await provisioner.provisioning.run(ProvisionLoop(**options))


async def action(provisioner: InMemoryProvisioner) -> str:
    reply = await run(provisioner)
    assert reply.provisioned is not None, reply.refusal
    assert reply.refusal is None
    return reply.provisioned.action


async def refusal(provisioner: InMemoryProvisioner, *, placeholder: bool = False) -> Refusal:
    reply = await run(provisioner, placeholder=placeholder)
    assert reply.refusal is not None, reply.provisioned
    assert reply.provisioned is None
    return reply.refusal


def sent_secret(posthog: Recorder) -> str:
    (body,) = posthog.bodies("POST")
    return str(body["inputs"]["headers"]["value"][SECRET_HEADER])


def bearers(posthog: Recorder) -> list[str]:
    return [
        request.headers["authorization"].removeprefix("Bearer ") for request in posthog.requests
    ]


async def test_case_36_without_a_credential_no_request_is_sent() -> None:
    provisioner = compose(secret=None)
    provisioner.credentials.token = TokenReply(source="none", version=1)
    assert await refusal(provisioner) == Refusal(
        reason="precondition", code="no_posthog_credential"
    )
    assert provisioner.posthog.requests == []
    assert provisioner.credentials.stored == []


async def test_preconditions_are_checked_in_order_and_before_any_request_to_posthog() -> None:
    blocked: dict[str, Any] = {"private_host": None, "public_url": LOOPBACK, "minting": False}
    provisioner = compose(secret=None, **blocked)
    provisioner.credentials.token = TokenReply(source="none", version=1)
    codes = [(await refusal(provisioner)).code]
    codes.append((await refusal(compose(secret=None, **blocked))).code)
    without_url = compose(secret=None, public_url=LOOPBACK, minting=False)
    codes.append((await refusal(without_url)).code)
    codes.append((await refusal(without_url, placeholder=True)).code)
    assert codes == [
        "no_posthog_credential",
        "posthog_not_configured",
        "api_public_url_unreachable",
        "webhook_secret_missing",
    ]
    assert without_url.posthog.requests == []


async def test_cases_39_and_40_a_secret_is_generated_and_the_project_stored() -> None:
    provisioner = compose(secret=None)
    assert await action(provisioner) == "created"
    secret = sent_secret(provisioner.posthog)
    assert re.fullmatch(r"[0-9a-f]{64}", secret)
    assert provisioner.credentials.derived_reply.payload == DerivedPayload(
        webhook_secret=secret,
        project_api_key="phc_grabbed",
        project_id="4242",
        private_host=POSTHOG_URL,
    )


async def test_a_generated_secret_is_stored_before_any_request_to_posthog() -> None:
    provisioner = compose(secret=None)
    provisioner.posthog.refuse("GET", "/api/projects/", 500)
    assert (await refusal(provisioner)).code == "project-discovery-failed"
    (stored,) = provisioner.credentials.stored
    assert re.fullmatch(r"[0-9a-f]{64}", stored.webhook_secret or "")


async def test_a_secret_is_generated_while_the_lock_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provisioner = compose(secret=None)
    store_derived, is_locked = provisioner.credentials.store_derived, []

    async def observe(payload: DerivedPayload, generation: int | None) -> None:
        is_locked.append(provisioner.store.is_locked)
        await store_derived(payload, generation)

    monkeypatch.setattr(provisioner.credentials, "store_derived", observe)
    await action(provisioner)
    assert is_locked == [True, True]
    assert not provisioner.store.is_locked


async def test_case_42_a_configured_secret_is_not_stored() -> None:
    provisioner = compose()
    await action(provisioner)
    assert sent_secret(provisioner.posthog) == SECRET
    assert [stored.webhook_secret for stored in provisioner.credentials.stored] == [None]


@pytest.mark.parametrize("minting", [True, False])
async def test_an_unreadable_secret_stops_a_run_before_any_request_to_posthog(
    minting: bool,
) -> None:
    provisioner = compose(secret=None, minting=minting)
    provisioner.credentials.store_unreadable()
    assert (await refusal(provisioner)).code == "webhook_secret_missing"
    assert provisioner.posthog.requests == []


async def test_an_unreadable_derived_row_is_not_overwritten() -> None:
    provisioner = compose()
    provisioner.credentials.store_unreadable()
    assert await action(provisioner) == "created"
    assert provisioner.credentials.stored == []


@pytest.mark.parametrize(
    ("source", "token"),
    [("personal_key", "phx_key"), ("oauth", "pha_a")],
    ids=["case_44", "case_45"],
)
async def test_the_resolved_bearer_is_used(source: Any, token: str) -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(source=source, version=1, token=token)
    await action(provisioner)
    assert set(bearers(provisioner.posthog)) == {token}


async def test_case_46_a_placeholder_from_a_laptop() -> None:
    provisioner = compose(public_url=LOOPBACK)
    reply = await run(provisioner, placeholder=True)
    assert reply.provisioned is not None
    assert (reply.provisioned.enabled, reply.provisioned.webhook_url) == (False, PLACEHOLDER_URL)
    (body,) = provisioner.posthog.bodies("POST")
    assert (body["enabled"], body["inputs"]["url"]["value"]) == (False, PLACEHOLDER_URL)


async def test_a_repeated_run_writes_nothing() -> None:
    provisioner = compose(secret=None)
    await action(provisioner)
    written = len(provisioner.credentials.stored)
    assert await action(provisioner) == "unchanged"
    assert len(provisioner.credentials.stored) == written
    assert [r.method for r in provisioner.posthog.requests].count("POST") == 1


async def test_a_run_succeeds_when_the_project_cannot_be_stored() -> None:
    provisioner = compose()
    provisioner.credentials.failures["store_derived"] = Unavailable("down")
    assert await action(provisioner) == "created"


READ_PROJECT = r"GET /api/projects/@current/"
LIST_DESTINATIONS = r"GET .*/hog_functions/\?"
READ_OWN = r"GET .*/hog_functions/own/"


@pytest.mark.parametrize(
    ("during", "existing"),
    [
        pytest.param(READ_PROJECT, False, id="before_a_creation"),
        pytest.param(LIST_DESTINATIONS, False, id="right_before_a_creation"),
        pytest.param(READ_PROJECT, True, id="before_a_change"),
        pytest.param(READ_OWN, True, id="right_before_a_change"),
    ],
)
async def test_a_run_writes_nothing_after_another_grant_was_connected(
    during: str, existing: bool
) -> None:
    provisioner = compose(secret=None)
    provisioner.credentials.store_payload(webhook_secret="minted")
    if existing:
        provisioner.posthog.add("own", **compliant(enabled=False))

    async def connect_again(request: Recorded) -> None:
        if re.match(during, f"{request.method} {request.path}"):
            credentials = provisioner.credentials
            # The credentials service deletes the project of the previous grant.
            credentials.grant = msgspec.structs.replace(credentials.grant, generation=2)
            credentials.store_payload(webhook_secret="minted")

    provisioner.posthog.before = connect_again
    refused = await refusal(provisioner)
    assert (refused.reason, refused.code) == ("precondition", "grant_replaced")
    assert refused.detail
    assert refused.remediation
    assert provisioner.credentials.derived_reply.payload == DerivedPayload(webhook_secret="minted")
    assert [r.method for r in provisioner.posthog.requests if r.method != "GET"] == []
    provisioner.posthog.before = None
    provisioner.credentials.token = msgspec.structs.replace(
        provisioner.credentials.token, generation=2
    )
    assert await action(provisioner) == ("updated" if existing else "created")


@pytest.mark.parametrize("secret", ["webhook", "signing"])
async def test_no_secret_is_generated_after_another_grant_was_stored(secret: str) -> None:
    provisioner = compose(secret=None if secret == "webhook" else SECRET)
    grant = PinnedGrant(provisioner.credentials, provisioner.credentials.token)
    provisioner.credentials.grant = msgspec.structs.replace(
        provisioner.credentials.grant, generation=2
    )
    minting = SigningSecrets if secret == "signing" else WebhookSecrets
    with pytest.raises(GrantReplaced):
        await minting(provisioner.credentials, None, minting=True).with_store(grant).obtain()
    assert provisioner.credentials.stored == []


NOT_REFRESHED = "HTTP 503"


def is_not_refreshed(refused: Refusal) -> bool:
    return NOT_REFRESHED in (refused.detail or "") and (refused.remediation or "").startswith(
        "Nothing has to be set"
    )


async def test_a_grant_that_is_not_refreshed_yet_counts_as_missing() -> None:
    provisioner = compose()
    none = TokenReply(source="none", version=1, not_refreshed=NOT_REFRESHED)
    provisioner.credentials.token = none
    # The body has only the code (contract 1.2); the diagnosis has the reason.
    assert await refusal(provisioner) == Refusal(
        reason="precondition", code="no_posthog_credential"
    )
    assert provisioner.posthog.requests == []
    provisioner.credentials.token = TokenReply(source="oauth", version=1, token="pha_old")
    provisioner.credentials.fresh = none
    provisioner.posthog.accepts = set()
    refused = await refusal(provisioner)
    assert refused.code == "unauthorized"
    assert is_not_refreshed(refused)
    provisioner.credentials.fresh = msgspec.structs.replace(none, not_refreshed=None)
    assert not is_not_refreshed(await refusal(provisioner))


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (403, "missing-scope")])
@pytest.mark.parametrize("after_oauth", [True, False])
async def test_a_substitute_personal_key_without_scopes_is_refused_as_not_refreshed(
    status: int, code: str, *, after_oauth: bool
) -> None:
    provisioner = compose()
    substitute = TokenReply(
        source="personal_key", version=1, token="phx", not_refreshed=NOT_REFRESHED
    )
    provisioner.credentials.token = substitute
    if after_oauth:
        provisioner.credentials.token = TokenReply(source="oauth", version=1, token="pha_old")
        provisioner.credentials.fresh = substitute
    provisioner.posthog.accepts = {"phx"}
    provisioner.posthog.refuse("GET", "hog_functions", status, {"detail": "no such scope"})
    refused = await refusal(provisioner)
    assert refused.code == code
    assert "no such scope" in (refused.detail or "")
    assert is_not_refreshed(refused)
    provisioner.posthog.answers.clear()
    assert await action(provisioner) == "created"


OUTCOMES: dict[str, Any] = {
    "created": [],
    "unauthorized": [("GET", "/api/projects/", 401)],
    "missing-scope": [("GET", "hog_functions", 403)],
    "unsupported-instance": [("GET", "hog_functions", 404)],
    "project-discovery-failed": [("GET", "/api/projects/", 500)],
    "api-error": [("POST", "hog_functions", 400)],
}


@pytest.mark.parametrize("minted", [True, False], ids=["minted", "configured"])
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_case_48_no_outcome_shows_a_secret(
    outcome: str,
    minted: bool,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    provisioner = compose(secret=None if minted else SECRET)
    if minted:
        provisioner.credentials.store_payload(webhook_secret="minted-secret")
    for method, path, status in OUTCOMES[outcome]:
        # PostHog may repeat any part of a request in its response.
        echo = f"pha_a {SECRET} minted-secret " * 20
        provisioner.posthog.refuse(method, path, status, {"detail": echo})
    reply = await run(provisioner)
    assert (reply.refusal.code if reply.refusal else "created") == outcome
    stdout, stderr = capfd.readouterr()
    assert "provisioned" in stdout
    for output in (repr(reply), stdout, stderr, caplog.text):
        for hidden in ("minted-secret" if minted else SECRET, "pha_a", "phc_grabbed"):
            assert hidden not in output


async def run_concurrently(provisioner: InMemoryProvisioner, runs: int) -> list[str]:
    """Start several runs before PostHog responds to the first request of the first run."""
    may_respond = asyncio.Event()

    async def hang(_request: Recorded) -> None:
        await may_respond.wait()

    provisioner.posthog.before = hang
    started = [asyncio.create_task(action(provisioner)) for _ in range(runs)]
    await eventually(lambda: provisioner.posthog.requests)
    may_respond.set()
    return await asyncio.gather(*started)


async def test_concurrent_runs_create_one_destination() -> None:
    assert sorted(await run_concurrently(compose(), 5)) == ["created"] + ["unchanged"] * 4


async def test_runs_that_wait_in_one_process_use_no_database_connection() -> None:
    provisioner = compose()
    await run_concurrently(provisioner, 5)
    assert provisioner.store.max_connections == 1


def test_inner_deadlines_are_shorter_than_outer_ones() -> None:
    assert store.WAIT_SECONDS < provisioning.RUN_SECONDS < store.IDLE_SECONDS
    assert PROVISIONER_PROVISION.deadline > store.IDLE_SECONDS


async def test_too_many_concurrent_runs_are_refused() -> None:
    provisioner = compose()
    may_respond = asyncio.Event()

    async def hang(_request: Recorded) -> None:
        await may_respond.wait()

    provisioner.posthog.before = hang
    runs = [asyncio.create_task(run(provisioner)) for _ in range(provisioning.MAX_CONCURRENT)]
    await eventually(lambda: provisioner.posthog.requests)
    with pytest.raises(Unavailable, match="too many"):
        await run(provisioner)
    may_respond.set()
    assert all(reply.provisioned for reply in await asyncio.gather(*runs))
    assert await action(provisioner) == "unchanged"


async def test_a_run_that_exceeds_its_deadline_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provisioning, "RUN_SECONDS", 0.01)
    provisioner = compose()
    provisioner.posthog.hang()
    with pytest.raises(Unavailable, match="too long"):
        await run(provisioner)
    assert not provisioner.store.is_locked


async def test_a_refused_token_is_refreshed_once_and_the_run_starts_over() -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(source="oauth", version=1, token="pha_old")
    provisioner.credentials.fresh = TokenReply(source="oauth", version=2, token="pha_new")
    provisioner.posthog.accepts = {"pha_new"}
    assert await action(provisioner) == "created"
    assert provisioner.credentials.rejected == ["pha_old"]
    assert bearers(provisioner.posthog) == ["pha_old"] + ["pha_new"] * 3


@pytest.mark.parametrize(
    ("fresh", "requests"),
    [
        (TokenReply(source="oauth", version=1, token="pha_old"), 1),
        (TokenReply(source="none", version=1), 1),
        (TokenReply(source="oauth", version=1, token="pha_new"), 2),
    ],
    ids=["the_same", "none", "another"],
)
async def test_a_token_that_is_refused_again_ends_the_run(fresh: TokenReply, requests: int) -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(source="oauth", version=1, token="pha_old")
    provisioner.credentials.fresh = fresh
    provisioner.posthog.accepts = set()
    assert (await refusal(provisioner)).code == "unauthorized"
    assert provisioner.credentials.rejected == ["pha_old"]
    assert len(provisioner.posthog.requests) == requests


async def test_a_refused_personal_key_is_not_requested_again() -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(source="personal_key", version=1, token="phx")
    provisioner.posthog.accepts = set()
    assert (await refusal(provisioner)).code == "unauthorized"
    assert provisioner.credentials.rejected == []


async def test_a_refusal_other_than_401_requests_no_other_token() -> None:
    provisioner = compose()
    provisioner.posthog.refuse("GET", "/api/projects/", 403)
    assert (await refusal(provisioner)).code == "missing-scope"
    assert provisioner.credentials.rejected == []


async def test_a_run_without_postgresql_sends_no_request_to_posthog() -> None:
    provisioner = compose()
    provisioner.store.is_down = True
    with pytest.raises(Unavailable):
        await run(provisioner)
    assert provisioner.posthog.requests == []


@pytest.mark.parametrize("secret", [SECRET, None])
async def test_a_run_without_the_credentials_service_sends_no_request_to_posthog(
    secret: str | None,
) -> None:
    provisioner = compose(secret=secret)
    provisioner.credentials.fail_all()
    with pytest.raises(Unavailable, match="credentials"):
        await run(provisioner)
    assert provisioner.posthog.requests == []


def counted(outcome: str) -> float:
    value = REGISTRY.get_sample_value("hogsend_provisioner_runs_total", {"outcome": outcome})
    return value or 0.0


async def test_each_run_is_counted_by_its_outcome() -> None:
    outcomes = ("created", "unchanged", "no_posthog_credential", "unavailable", "internal")
    before = {outcome: counted(outcome) for outcome in outcomes}
    provisioner = compose()
    provisioner.posthog.add("fn", **compliant())
    await run(provisioner)
    await run(compose())
    provisioner.credentials.token = TokenReply(source="none", version=1)
    await run(provisioner)
    for error in (Unavailable("down"), HogsendError("broken")):
        provisioner.credentials.failures["bearer"] = error
        with pytest.raises(HogsendError):
            await run(provisioner)
    assert {outcome: counted(outcome) - before[outcome] for outcome in outcomes} == dict.fromkeys(
        outcomes, 1
    )


async def test_the_webhook_url_is_derived_from_the_public_url() -> None:
    reply = await run(compose(public_url="https://t.example.com/"))
    assert reply.provisioned is not None
    assert reply.provisioned.webhook_url == WEBHOOK_URL


async def test_the_only_project_of_a_grant_is_provisioned_instead_of_the_current_one() -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=[77]
    )
    assert await action(provisioner) == "created"
    assert provisioner.posthog.lines()[0] == "GET /api/projects/77/"


async def test_a_project_outside_the_grant_is_refused_with_both_projects() -> None:
    provisioner = compose(project_id="99")
    provisioner.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=[77]
    )
    provisioner.posthog.refuse("GET", "/api/projects/99/", 404)
    reply = await run(provisioner)
    assert reply.refusal is not None
    assert reply.refusal.code == "project-discovery-failed"
    assert "POSTHOG_PROJECT_ID is 99, but the grant covers project 77." in (
        reply.refusal.detail or ""
    )


@pytest.mark.parametrize("covered", [[], [7, 77]])
async def test_the_requested_project_is_provisioned_and_stored(
    covered: list[int],
) -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=covered
    )
    reply = await run(provisioner, project_id="77")
    assert reply.provisioned is not None
    assert provisioner.posthog.lines()[0] == "GET /api/projects/77/"
    stored = provisioner.credentials.derived_reply.payload
    assert stored is not None
    assert (stored.project_id, stored.private_host) == ("4242", POSTHOG_URL)


@pytest.mark.parametrize(
    ("configured", "covered", "detail"),
    [
        ("99", [], "POSTHOG_PROJECT_ID says project 99"),
        (None, [7], "says project 7"),
        (None, [7, 8], "covers projects 7, 8"),
    ],
)
async def test_a_project_that_may_not_be_requested_is_refused_before_any_request_to_posthog(
    configured: str | None, covered: list[int], detail: str
) -> None:
    provisioner = compose(project_id=configured)
    provisioner.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=covered
    )
    reply = await run(provisioner, project_id="77")
    assert reply.refusal is not None
    assert reply.refusal.code == "project_not_open"
    assert detail in (reply.refusal.detail or "")
    assert provisioner.posthog.requests == []
    assert provisioner.credentials.stored == []
