"""Connecting in a browser: the requirements on a callback, and the code of each failure."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from hogsend.contract.authorizations import (
    AuthorizationBegun,
    AuthorizationFinished,
    BeginAuthorization,
    FinishAuthorization,
)
from hogsend.contract.errors import Unavailable
from hogsend.posthog.oauth_discovery import PATH
from hogsend.posthog.pkce import PkceSession
from hogsend.service.ssrf import AddressRefused
from services.credentials.authorization.server import DISCOVERY_SECONDS
from tests.unit.credentials.conftest import Driver, Replica
from tests.unit.credentials.fakes import EU
from tests.virtual_time import now, on_virtual_time

CLIENT = "https://t.example.com/.well-known/oauth-client.json"
REDIRECT = "https://t.example.com/console/connect/callback"
BROWSER = hashlib.sha256(b"this browser").hexdigest()
OTHER = hashlib.sha256(b"another browser").hexdigest()


async def begin(replica: Replica, host: str = EU) -> AuthorizationBegun:
    return await replica.authorizations.begin(
        BeginAuthorization(
            provider_id="posthog",
            private_host=host,
            client_id=CLIENT,
            redirect_uri=REDIRECT,
            browser_sha256=BROWSER,
        )
    )


async def state(replica: Replica) -> str:
    """Start an authorization, and return the state in the URL of the consent page."""
    started = await begin(replica)
    assert started.authorize_url is not None
    return parse_qs(urlsplit(started.authorize_url).query)["state"][0]


async def finish(replica: Replica, state: str, **changes: Any) -> AuthorizationFinished:
    callback: dict[str, Any] = {"browser_sha256": BROWSER, "code": "c0de", "state": state}
    return await replica.authorizations.finish(
        FinishAuthorization(provider_id="posthog", **{**callback, **changes})
    )


def refused(finished: AuthorizationFinished | AuthorizationBegun) -> str:
    assert finished.refusal is not None
    assert finished.refusal.remediation
    return finished.refusal.code


async def test_the_verifier_is_never_sent_to_the_browser_and_the_grant_is_stored(
    driver: Driver, replica: Replica
) -> None:
    started = await begin(replica)
    assert started.authorize_url is not None
    address = urlsplit(started.authorize_url)
    query = dict(parse_qsl(address.query))
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{EU}/oauth/authorize/"
    assert (query["client_id"], query["redirect_uri"]) == (CLIENT, REDIRECT)
    assert query["state"] not in repr(driver.waiting.rows)
    finished = await finish(replica, query["state"])
    assert finished.credential is not None
    assert finished.credential.scoped_teams == [7]
    form = dict(parse_qsl(driver.posthog.requests[-1].content.decode()))
    assert (form["code"], form["redirect_uri"], form["client_id"]) == ("c0de", REDIRECT, CLIENT)
    assert PkceSession(verifier=form["code_verifier"]).challenge == query["code_challenge"]
    assert form["code_verifier"] not in started.authorize_url
    stored = await driver.stored()
    assert stored is not None
    assert (stored.access_token, stored.refresh_token) == ("pha_1", "phr_1")
    assert (stored.client_id, stored.token_endpoint) == (CLIENT, f"{EU}/oauth/token/")
    assert [change.change for change in driver.stream.changes] == ["stored"]
    for text in (repr(started), repr(finished), repr(FinishAuthorization("posthog", "s", BROWSER))):
        assert query["state"] not in text
        assert "pha_" not in text


async def test_a_callback_is_accepted_once_even_concurrently(
    driver: Driver, replica: Replica
) -> None:
    pending = await state(replica)
    results = await asyncio.gather(finish(replica, pending), finish(driver.replica(), pending))
    assert sum(result.credential is not None for result in results) == 1
    assert refused(await finish(replica, pending)) == "authorization_expired"


async def test_two_tabs_do_not_disturb_each_other(replica: Replica) -> None:
    first, second = await state(replica), await state(replica)
    assert (await finish(replica, second)).credential is not None
    assert (await finish(replica, first)).credential is not None


async def test_a_callback_with_an_unknown_state_connects_nothing(
    driver: Driver, replica: Replica
) -> None:
    await state(replica)
    for unknown in ("", "0" * 22, "\ud800"):
        assert refused(await finish(replica, unknown)) == "authorization_expired"
    assert await driver.stored() is None
    assert all(request.method == "GET" for request in driver.posthog.requests)


async def test_a_callback_in_another_browser_connects_nothing_and_ends_the_authorization(
    driver: Driver, replica: Replica
) -> None:
    pending = await state(replica)
    assert refused(await finish(replica, pending, browser_sha256=OTHER)) == "state_mismatch"
    assert refused(await finish(replica, pending)) == "authorization_expired"
    assert await driver.stored() is None


async def test_after_ten_minutes_a_callback_is_refused_and_its_row_is_deleted(
    driver: Driver, replica: Replica
) -> None:
    first, second = await state(replica), await state(replica)
    driver.clock.advance(599)
    assert (await finish(replica, first)).credential is not None
    driver.clock.advance(1)
    assert refused(await finish(replica, second)) == "authorization_expired"
    await state(replica)
    driver.clock.advance(600)
    await state(replica)
    assert len(driver.waiting.rows) == 1


async def test_an_authorization_sealed_with_another_secret_counts_as_expired(
    driver: Driver, replica: Replica
) -> None:
    pending = await state(driver.replica(secret="gone"))
    assert refused(await finish(replica, pending)) == "authorization_expired"
    pending = await state(driver.replica(secret="old"))
    rotated = driver.replica(previous=["old"])
    assert (await finish(rotated, pending)).credential is not None


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        ("access_denied", "consent_denied", "declined"),
        ("invalid_scope", "scopes_refused", "scopes"),
        ("temporarily_unavailable", "exchange_failed", "not available"),
        ("server_error", "exchange_failed", "server_error"),
        ("<script>", "exchange_failed", "no readable error"),
        ("pha_secret", "exchange_failed", "no readable error"),
        ("", "exchange_failed", "no readable error"),
    ],
)
async def test_every_error_of_posthog_is_explained(
    driver: Driver, replica: Replica, error: str, code: str, text: str
) -> None:
    pending = await state(replica)
    finished = await finish(replica, pending, code="c0de", error=error)
    assert refused(finished) == code
    assert finished.refusal is not None
    assert text in finished.refusal.detail
    assert await driver.stored() is None
    assert refused(await finish(replica, pending)) == "authorization_expired"


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (400, {"error": "invalid_grant"}, "five minutes"),
        (401, {"error": "invalid_client"}, "does not know this client"),
        (400, {"error": "invalid_request", "error_description": "Mismatching"}, "up to an hour"),
        (400, {"error": "c0de"}, "Connect again"),
        (503, b"<html>", "Connect again"),
        (302, b"", "Connect again"),
        (200, b"nothing", "Connect again"),
        (200, {"access_token": "pha_1"}, "Connect again"),
        (200, b"x" * 100_000, "Connect again"),
    ],
)
async def test_a_failed_exchange_stores_nothing_and_shows_no_secret(
    driver: Driver, replica: Replica, status: int, body: Any, text: str
) -> None:
    pending = await state(replica)
    driver.posthog.token_status, driver.posthog.tokens = status, body
    finished = await finish(replica, pending)
    assert refused(finished) == "exchange_failed"
    assert finished.refusal is not None
    assert text in finished.refusal.remediation
    for secret in ("c0de", "pha_1", pending):
        assert secret not in repr(finished)
    assert await driver.stored() is None


async def test_an_unusable_token_is_reported_as_posthogs_fault(
    driver: Driver, replica: Replica
) -> None:
    assert isinstance(driver.posthog.tokens, dict)
    driver.posthog.tokens["access_token"] = "pha_\n1"
    finished = await finish(replica, await state(replica))
    assert refused(finished) == "exchange_failed"
    assert "pha_" not in repr(finished)
    assert await driver.stored() is None


async def test_a_grant_is_stored_with_the_projects_and_organizations_that_posthog_limits_it_to(
    driver: Driver, replica: Replica
) -> None:
    assert isinstance(driver.posthog.tokens, dict)
    driver.posthog.tokens["scoped_organizations"] = ["0190aa51"]
    await finish(replica, await state(replica))
    stored = await driver.stored()
    assert stored is not None
    assert (stored.scoped_teams, stored.scoped_organizations) == ([7], ["0190aa51"])
    del driver.posthog.tokens["scoped_teams"], driver.posthog.tokens["scoped_organizations"]
    await finish(replica, await state(replica))
    stored = await driver.stored()
    assert stored is not None
    assert (stored.scoped_teams, stored.scoped_organizations) == ([], [])


async def test_a_code_that_the_server_repeats_as_its_error_is_not_shown(
    driver: Driver, replica: Replica
) -> None:
    driver.posthog.token_status, driver.posthog.tokens = 400, {"error": "letters_only"}
    finished = await finish(replica, await state(replica), code="letters_only")
    assert refused(finished) == "exchange_failed"
    assert "letters_only" not in repr(finished)


async def test_a_callback_without_a_code_is_not_exchanged(driver: Driver, replica: Replica) -> None:
    for code in (None, ""):
        finished = await finish(replica, await state(replica), code=code)
        assert refused(finished) == "exchange_failed"
    assert all(request.method == "GET" for request in driver.posthog.requests)


async def test_a_grant_without_any_scope_does_not_replace_one_that_works(
    driver: Driver, replica: Replica
) -> None:
    working = driver.grant(left=3600)
    await driver.put(working)
    assert isinstance(driver.posthog.tokens, dict)
    driver.posthog.tokens["scope"] = "openid profile"
    assert refused(await finish(replica, await state(replica))) == "scopes_refused"
    assert await driver.stored() == working


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"token_endpoint": "https://evil.example/oauth/token/"}, "not at its issuer"),
        (
            {"authorization_endpoint": "https://us.posthog.com/oauth/authorize/"},
            "not at its issuer",
        ),
        ({"issuer": "https://evil.example"}, "not at its issuer"),
        ({"token_endpoint": "http://eu.posthog.com/oauth/token/"}, "must be https"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "must be https"),
        ({"authorization_endpoint": "https://a:b@eu.posthog.com/"}, "user or password"),
        (
            {"token_endpoint": "https://10.0.0.1/", "issuer": "https://10.0.0.1"},
            "not at its issuer",
        ),
    ],
)
async def test_a_code_of_one_posthog_is_never_sent_to_another(
    driver: Driver, replica: Replica, changes: dict[str, str], text: str
) -> None:
    driver.posthog.document |= changes
    started = await begin(replica)
    assert refused(started) == "discovery_failed"
    assert started.refusal is not None
    assert text in started.refusal.detail
    assert driver.waiting.rows == {}


async def test_endpoints_inside_the_network_are_not_called(
    driver: Driver, replica: Replica
) -> None:
    inside = "https://10.0.0.1"
    driver.posthog.document = {
        "issuer": inside,
        "authorization_endpoint": f"{inside}/oauth/authorize/",
        "token_endpoint": f"{inside}/oauth/token/",
    }
    started = await begin(replica)
    assert started.refusal is not None
    assert "OUTBOUND_ALLOW" in started.refusal.detail


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (AddressRefused("10.0.0.1"), "10.0.0.1 is not at a public address"),
        (b" " * (64 * 1024 + 1), "answered at too great a length"),
    ],
    ids=["an address inside the network", "a document over 64 KiB"],
)
async def test_a_discovery_document_that_may_not_be_read_is_refused_with_the_reason(
    driver: Driver, replica: Replica, problem: Exception | bytes, text: str
) -> None:
    driver.posthog.discovery = problem
    started = await begin(replica)
    assert refused(started) == "discovery_failed"
    assert started.refusal is not None
    assert text in started.refusal.detail
    assert driver.waiting.rows == {}


@on_virtual_time
async def test_discovery_ends_when_posthog_does_not_answer_in_time(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_url: str) -> None:
        await asyncio.Event().wait()

    replica = driver.replica()
    monkeypatch.setattr(replica.authorizations._server, "_get", hang)
    assert refused(await begin(replica)) == "discovery_failed"
    assert now() == DISCOVERY_SECONDS


async def test_only_a_redirect_that_adds_a_slash_is_followed_at_discovery(
    driver: Driver, replica: Replica
) -> None:
    document = f"{EU}{PATH}"
    driver.posthog.redirects = {document: f"{document}/"}
    assert (await begin(replica)).authorize_url is not None
    driver.posthog.redirects = {document: "https://evil.example/"}
    assert refused(await begin(replica)) == "discovery_failed"
    hosts = {request.url.host for request in driver.posthog.requests}
    assert hosts == {"eu.posthog.com"}


async def test_a_posthog_without_an_oauth_server_is_refused_with_the_alternative(
    driver: Driver, replica: Replica
) -> None:
    driver.posthog.discovery_status = 404
    started = await begin(replica)
    assert refused(started) == "oauth_unsupported"
    assert started.refusal is not None
    assert "POSTHOG_PERSONAL_API_KEY" in started.refusal.remediation


async def test_a_posthog_without_client_documents_is_refused_before_consent(
    driver: Driver, replica: Replica
) -> None:
    del driver.posthog.document["client_id_metadata_document_supported"]
    started = await begin(replica)
    assert refused(started) == "oauth_unsupported"
    assert started.refusal is not None
    assert "newer PostHog" in started.refusal.detail
    assert "POSTHOG_PERSONAL_API_KEY" in started.refusal.remediation
    assert driver.waiting.rows == {}


async def test_a_posthog_without_a_discovery_document_is_refused(
    driver: Driver, replica: Replica
) -> None:
    driver.posthog.discovery_status = 520
    assert refused(await begin(replica)) == "discovery_failed"

    driver.posthog.unreachable = True
    assert refused(await begin(replica)) == "discovery_failed"


async def test_without_postgresql_nothing_is_started_or_finished(
    driver: Driver, replica: Replica
) -> None:
    pending = await state(replica)
    driver.waiting.available = False
    for call in (begin(replica), finish(replica, pending)):
        with pytest.raises(Unavailable):
            await call
    assert await driver.stored() is None
