"""Notices: problems at PostHog cause signed requests to the operator's webhook."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from hogsend.contract import subjects
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.scopes import SCOPES
from hogsend.service.settings.shared import OutboundSettings
from hogsend.service.tasks import cancel_all
from services.gateway.notices import operator_webhook, watches
from services.gateway.notices.sender import NoticeSender
from services.gateway.settings import GatewaySettings
from services.gateway.workers.link import Workers
from tests.cli.recording_server import CannedResponse, Fake, RecordedRequest
from tests.integration.harness import (
    Gateway,
    admin,
    credentials_service,
    gateway_service,
    provisioner_service,
)
from tests.integration.ingest.driver import ingest_service
from tests.integration.sandbox.driver import Driver as PostHog
from tests.integration.sandbox.driver import sandbox
from tests.servers import Servers
from tests.waiting import eventually

SECRET = "whsec_" + "b3BlcmF0b3Igb2YgdGhpcyBpbnN0YW5jZQ=="
CREDENTIAL = "/v1/admin/provider-credentials/posthog"
PROVISION = "/v1/admin/analytics/provision-loop"


class Operator(Fake):
    """The operator's webhook."""

    def respond(self, request: RecordedRequest) -> CannedResponse:  # noqa: ARG002
        return CannedResponse(200)

    @property
    def states(self) -> dict[str, str]:
        """The last state of each kind of problem. Every request must be signed."""
        states = {}
        for request in list(self.requests):
            notice: Any = Webhook(SECRET).verify(request.body, request.headers)
            states[notice["type"]] = notice["data"]["state"]
        return states

    async def wait_for(self, kind: str, state: str) -> None:
        await eventually(lambda: self.states.get(kind) == state)


class Stack:
    """A gateway that sends notices, the services that it queries, and a stand-in for PostHog."""

    def __init__(self, posthog: PostHog, gateway: Gateway, operator: Operator) -> None:
        self.posthog, self.gateway, self.operator = posthog, gateway, operator

    async def set_watcher(self, state: int) -> None:
        response = await self.posthog.http.put("/_sandbox/watcher", json={"state": state})
        assert response.is_success

    async def connect(self, refresh_token: str) -> None:
        """Store a grant whose access token has to be refreshed."""
        payload = {
            "accessToken": "pha_old",
            "refreshToken": refresh_token,
            "expiresAt": (datetime.now(UTC) - timedelta(minutes=1)).isoformat(),
            "tokenEndpoint": f"{self.posthog.url}/oauth/token/",
            "clientId": CLIENT_ID,
            "scopes": list(SCOPES),
            "scopedTeams": [4242],
            "scopedOrganizations": [],
        }
        body = {"kind": "oauth", "payload": payload}
        response = await self.gateway.http.put(CREDENTIAL, json=body, headers=admin())
        assert response.is_success, response.text


@pytest.fixture
async def stack(
    servers: Servers,
    database_url: str,
    fresh_bus: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Stack]:
    for name in ("CHECK_SECONDS", "POSTHOG_SECONDS"):
        monkeypatch.setattr(watches, name, 0.25)
    monkeypatch.setattr(operator_webhook, "NoticeSender", partial(NoticeSender, spacing=0))
    operator = Operator()
    async with AsyncExitStack() as running:
        running.enter_context(operator.running())
        posthog = await running.enter_async_context(sandbox())
        key = posthog.instance.options.personal_key
        configured = {
            "posthog_api_key": "phc_test",
            "posthog_host": posthog.url,
            "posthog_private_host": posthog.url,
        }
        enter = running.enter_async_context
        await enter(credentials_service(servers, database_url, personal_key=key))
        await enter(ingest_service(servers, database_url))
        await enter(provisioner_service(servers, database_url, posthog=configured))
        gateway = await enter(gateway_service(servers, tmp_path, posthog=configured))
        settings = GatewaySettings(
            operator_webhook_url=f"{operator.url}/hook",
            operator_webhook_secret=SECRET,
            spool_dir=tmp_path,
        )
        (send_notices,) = operator_webhook.operator_webhook(
            gateway.bus, Workers(gateway.queue), settings, OutboundSettings()
        )
        task = asyncio.ensure_future(send_notices())
        yield Stack(posthog, gateway, operator)
        await cancel_all(task)


async def test_a_problem_that_needs_the_operator_is_sent_when_it_starts_and_ends(
    stack: Stack,
) -> None:
    operator, http = stack.operator, stack.gateway.http
    provisioned = await http.post(PROVISION, json={}, headers=admin())
    assert provisioned.is_success, provisioned.text

    await stack.set_watcher(3)
    await operator.wait_for("destination.disabled", "raised")
    # Provisioning saves the function, so PostHog tries again. The problem ends with the first
    # delivery.
    assert (await http.post(PROVISION, json={}, headers=admin())).is_success
    assert stack.posthog.instance.functions.watcher_state == 2
    await stack.set_watcher(1)
    await operator.wait_for("destination.disabled", "resolved")

    await stack.gateway.bus.publish(subjects.webhook("posthog"), b"no JSON", {})
    await operator.wait_for("dead_letters.waiting", "raised")
    purged = await http.post("/v1/admin/deadletters/purge", json={"all": True}, headers=admin())
    assert purged.json()["count"] == 1
    await operator.wait_for("dead_letters.waiting", "resolved")

    await stack.connect("phr_revoked")
    await operator.wait_for("credential.needs_reconnect", "raised")
    tokens = await stack.posthog.tokens()
    await stack.connect(tokens["refresh_token"])
    await operator.wait_for("credential.needs_reconnect", "resolved")
    assert len(operator.requests) == 6, "each notice is sent once"


@pytest.mark.parametrize("changed", [{"deleted": True}, {"enabled": False}, {"inputs": {}}])
async def test_a_destination_that_was_changed_in_posthog_is_sent_as_disabled_until_it_is_repaired(
    stack: Stack, changed: dict[str, Any]
) -> None:
    """The function was deleted or disabled in PostHog, or it sends another webhook secret."""
    operator, http = stack.operator, stack.gateway.http
    provisioned = (await http.post(PROVISION, json={}, headers=admin())).json()
    function = f"/api/projects/4242/hog_functions/{provisioned['hogFunctionId']}/"
    if "inputs" in changed:
        inputs = (await stack.posthog.http.get(function, headers=stack.posthog.key)).json()[
            "inputs"
        ]
        headers = {**inputs["headers"]["value"], "x-posthog-webhook-secret": "another"}
        changed = {"inputs": {**inputs, "headers": {"value": headers}}}
    response = await stack.posthog.http.patch(function, json=changed, headers=stack.posthog.key)
    assert response.is_success, response.text
    await operator.wait_for("destination.disabled", "raised")
    assert (await http.post(PROVISION, json={}, headers=admin())).is_success
    await operator.wait_for("destination.disabled", "resolved")
    assert len(operator.requests) == 2, "each notice is sent once"
