"""Health: the state of each component and service, and the overall status."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal
from unittest.mock import AsyncMock, Mock, patch

import msgspec
import pytest
from msgspec.structs import replace

from hogsend.contract.credentials import CREDENTIALS_STATUS, CredentialStatus, WebhookSecretReply
from hogsend.contract.errors import Unavailable
from hogsend.contract.health import (
    ANALYTICS_HEALTH,
    CREDENTIALS_HEALTH,
    INGEST_HEALTH,
    PROVISIONER_HEALTH,
    DependencyHealth,
    SchemaHealth,
    ServiceHealth,
)
from services.gateway.health.documents import Health
from services.gateway.health.report import HealthReports, report_health
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.size_limit import HEADERS_BYTES, SizeLimit
from services.gateway.webhooks.spool.spool import Spool
from services.gateway.workers.link import Workers
from services.gateway.workers.messages import WorkerReport
from tests.unit.gateway.fakes import SECRET, FakeGateway, bearer, fake_gateway

SERVICES = (CREDENTIALS_HEALTH, INGEST_HEALTH, PROVISIONER_HEALTH, ANALYTICS_HEALTH)
STATUS = CredentialStatus(
    version=7, oauth="present", scopes=[], webhook_secret="absent", needs_reconnect=False
)


def service(
    name: str,
    *,
    database: Literal["up", "down"] = "up",
    pending: tuple[str, ...] = (),
    waits_for: str | None = None,
) -> ServiceHealth:
    return ServiceHealth(
        service=name,
        uptime=3.5,
        database=DependencyHealth(status=database, latency_ms=1.5),
        schema=SchemaHealth(applied="1", required="2" if pending else "1", pending=[*pending]),
        waits_for=waits_for,
    )


def all_up(gateway: FakeGateway) -> None:
    for endpoint in SERVICES:
        gateway.bus.reply_with(endpoint, service(endpoint.service))
    gateway.bus.reply_with(CREDENTIALS_STATUS, STATUS)


async def health(gateway: FakeGateway) -> dict[str, Any]:
    with patch.object(gateway.bus.client, "flush", AsyncMock()):
        response = await gateway.http.get("/v1/health")
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    return document


async def test_the_status_is_healthy_when_everything_is_up(gateway: FakeGateway) -> None:
    all_up(gateway)
    document = await health(gateway)
    assert document["status"] == "healthy"
    assert {name: service["status"] for name, service in document["services"].items()} == {
        "gateway": "up",
        "credentials": "up",
        "ingest": "up",
        "provisioner": "up",
        "analytics": "up",
    }
    assert document["components"]["database"] == {"status": "up", "latencyMs": 1.5}
    assert document["components"]["worker"]["status"] == "up"
    assert document["components"]["worker"]["lastSeenAt"]
    assert document["credentials"] == {"posthog": {"state": "present", "version": 7}}
    assert document["schema"]["engine"]["applied"] == (
        "credentials/1 ingest/1 provisioner/1 analytics/1"
    )


async def test_the_document_has_the_keys_the_upstream_doctor_reads(gateway: FakeGateway) -> None:
    document = await health(gateway)
    assert document["components"]["bus"] == document["components"]["redis"]
    for track in ("engine", "client"):
        assert set(document["schema"][track]) == {"applied", "required", "inSync", "pending"}
    assert document["activity"] == {
        "windowHours": 24,
        "journeys": {"failed": None, "completed": None},
        "emails": {"failed": None, "sent": None},
    }


@pytest.mark.parametrize("endpoint", SERVICES, ids=lambda endpoint: str(endpoint.service))
async def test_a_service_that_does_not_reply_is_down_and_the_status_degraded(
    gateway: FakeGateway, endpoint: Any
) -> None:
    all_up(gateway)
    gateway.bus.reply_with(endpoint, Unavailable("it does not run"))
    document = await health(gateway)
    assert document["status"] == "degraded"
    assert document["services"][endpoint.service] == {"status": "down"}
    assert document["components"]["worker"]["status"] == (
        "down" if endpoint is INGEST_HEALTH else "up"
    )


async def test_a_bus_with_problems_is_up_and_the_status_degraded(gateway: FakeGateway) -> None:
    all_up(gateway)
    under_replicated = msgspec.structs.replace(
        service("ingest"), bus_problems=["EVENTS has 2 of 3 copies", "WEBHOOKS has 2 of 3 copies"]
    )
    gateway.bus.reply_with(INGEST_HEALTH, under_replicated)
    document = await health(gateway)
    assert document["status"] == "degraded"
    assert document["components"]["bus"]["status"] == "up"
    assert document["components"]["bus"]["problems"] == under_replicated.bus_problems


async def test_a_bus_with_a_small_payload_limit_is_up_and_the_status_degraded(
    gateway: FakeGateway,
) -> None:
    all_up(gateway)
    assert "webhookLimitBytes" not in (await health(gateway))["components"]["bus"]
    gateway.bus.payload_limit = 1024 * 1024
    document = await health(gateway)
    assert document["status"] == "degraded"
    bus = document["components"]["bus"]
    assert (bus["status"], bus["webhookLimitBytes"]) == ("up", 1024 * 1024 - HEADERS_BYTES)


async def test_ingest_is_down_while_it_waits_for_a_dependency(gateway: FakeGateway) -> None:
    all_up(gateway)
    gateway.bus.reply_with(INGEST_HEALTH, service("ingest", waits_for="PostgreSQL"))
    document = await health(gateway)
    assert document["status"] == "degraded"
    assert document["services"]["ingest"]["waitsFor"] == "PostgreSQL"
    assert document["components"]["worker"]["status"] == "down"


async def test_a_database_that_one_service_cannot_reach_is_down(gateway: FakeGateway) -> None:
    all_up(gateway)
    gateway.bus.reply_with(ANALYTICS_HEALTH, service("analytics", database="down"))
    document = await health(gateway)
    assert document["components"]["database"] == {"status": "down"}
    assert document["status"] == "degraded"


async def test_pending_migrations_are_listed_and_determine_the_status(gateway: FakeGateway) -> None:
    all_up(gateway)
    gateway.bus.reply_with(INGEST_HEALTH, service("ingest", pending=("2", "3")))
    gateway.bus.reply_with(ANALYTICS_HEALTH, Unavailable("it does not run"))
    document = await health(gateway)
    assert document["status"] == "migration_pending"
    assert document["schema"]["engine"]["inSync"] is False
    assert document["schema"]["engine"]["pending"] == ["ingest/2", "ingest/3"]


async def test_without_nats_the_bus_is_down_and_services_are_unknown(gateway: FakeGateway) -> None:
    gateway.bus.is_up = False
    document = await health(gateway)
    ready = await gateway.http.get("/readyz")
    assert document["status"] == "degraded"
    assert document["components"]["bus"] == {"status": "down"}
    # The services may well be running, and PostgreSQL too.
    for name in ("credentials", "ingest", "provisioner", "analytics"):
        assert document["services"][name] == {"status": "unknown"}
    assert document["components"]["database"] == {"status": "unknown"}
    assert document["components"]["worker"] == {"status": "unknown"}
    assert document["schema"]["engine"]["inSync"] is False
    assert document["credentials"] == {"posthog": {"state": "unknown"}}
    # Without a spool, a webhook would be refused.
    assert (ready.status_code, ready.json()["bus"]) == (503, "down")


async def test_while_nats_is_frozen_services_are_unknown(
    gateway: FakeGateway,
) -> None:
    with patch.object(gateway.bus.client, "flush", AsyncMock(side_effect=TimeoutError)):
        document = (await gateway.http.get("/v1/health")).json()
    assert document["status"] == "degraded"
    assert document["components"]["bus"] == {"status": "down"}
    assert document["components"]["database"] == {"status": "unknown"}
    assert {document["services"][endpoint.service]["status"] for endpoint in SERVICES} == {
        "unknown"
    }
    assert document["services"]["gateway"]["status"] == "up"


async def test_without_any_service_the_database_is_unknown(gateway: FakeGateway) -> None:
    document = await health(gateway)
    assert {document["services"][endpoint.service]["status"] for endpoint in SERVICES} == {"down"}
    assert document["components"]["database"] == {"status": "unknown"}
    assert document["schema"]["engine"]["inSync"] is False


async def test_a_schema_that_no_service_could_read_is_not_in_sync(gateway: FakeGateway) -> None:
    unread = SchemaHealth(applied=None, required="2", pending=[])
    for endpoint in SERVICES:
        of_service = service(endpoint.service, database="down")
        gateway.bus.reply_with(endpoint, msgspec.structs.replace(of_service, schema=unread))
    engine = (await health(gateway))["schema"]["engine"]
    assert (engine["inSync"], engine["applied"]) == (False, None)


async def test_a_schema_and_a_latency_that_one_service_could_not_read_are_left_out(
    gateway: FakeGateway,
) -> None:
    all_up(gateway)
    unread = msgspec.structs.replace(
        service("ingest"),
        database=DependencyHealth(status="up"),
        schema=SchemaHealth(applied=None, required="1", pending=[]),
    )
    gateway.bus.reply_with(INGEST_HEALTH, unread)
    document = await health(gateway)
    assert document["schema"]["engine"]["applied"] == "credentials/1 provisioner/1 analytics/1"
    assert document["components"]["database"] == {"status": "up", "latencyMs": 1.5}


async def test_a_gateway_with_an_unreadable_webhook_secret_is_down() -> None:
    unreadable = WebhookSecretReply(version=1, state="unreadable")
    async with fake_gateway(secret=None, minted=unreadable) as closed:
        all_up(closed)
        document = await health(closed)
    assert document["status"] == "degraded"
    assert document["services"]["gateway"]["status"] == "down"
    assert document["services"]["gateway"]["waitsFor"] == "readable webhook secret"


async def test_a_gateway_whose_secret_was_deleted_waits_for_a_new_one() -> None:
    absent = WebhookSecretReply(version=1, state="absent")
    async with fake_gateway(secret=None, minted=absent, webhook_open=False) as closed:
        all_up(closed)
        document = await health(closed)
    assert document["services"]["gateway"]["waitsFor"] == "new webhook secret"


async def test_a_gateway_without_bus_and_spool_waits_for_the_spool(gateway: FakeGateway) -> None:
    gateway.bus.is_up = False
    document = await health(gateway)
    assert document["services"]["gateway"]["waitsFor"] == "spool"


async def test_the_bus_is_down_while_webhooks_are_spooled(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1_000_000)
    await spool.append(QueuedWebhook("1", "hogsend.webhooks.posthog", {}, b"{}"))
    async with fake_gateway(spool=spool) as gateway:
        all_up(gateway)
        document = await health(gateway)
    assert document["status"] == "degraded"
    assert document["components"]["bus"]["status"] == "down"
    await spool.close()


async def test_a_spool_with_damaged_files_degrades_the_status_of_a_gateway_that_is_up(
    tmp_path: Path,
) -> None:
    (tmp_path / "000000000001-0000abcd.spool").write_bytes(b"rubbish")
    spool = Spool(tmp_path, 1_000_000)
    async with fake_gateway(spool=spool) as gateway:
        all_up(gateway)
        document = await health(gateway)
    assert document["status"] == "degraded"
    assert document["services"]["gateway"]["status"] == "up"
    assert document["services"]["gateway"]["spoolSetAside"] == 1
    await spool.close()


async def test_all_workers_are_probed_and_missing_ones_are_reported(gateway: FakeGateway) -> None:
    all_up(gateway)
    workers: Any = Mock(expected=3)

    async def report_of(*reports: WorkerReport) -> Health:
        workers.reports = AsyncMock(return_value=list(reports))
        size = SizeLimit(gateway.bus, 1024)
        with patch.object(gateway.bus.client, "flush", AsyncMock()):
            return await report_health(gateway.bus, gateway.queue, gateway.secret, size, workers)

    one, two, three = (
        WorkerReport(number, False, number, 0, 0, [])  # noqa: FBT003 - as it is on the wire
        for number in (1, 2, 3)
    )
    report = await report_of(one, two, three)
    assert (report.status, report.services["gateway"].workers_up) == ("healthy", 3)
    report = await report_of(one, three)
    assert (report.status, report.services["gateway"].workers_up) == ("degraded", 2)
    assert report.components.bus.status == "up"
    report = await report_of(one, two, replace(three, spooling=True))
    assert report.components.bus.status == "down"
    report = await report_of(one, two, replace(three, spooling=True, full=True))
    assert report.services["gateway"].waits_for == "room in the spool"
    assert (report.status, report.services["gateway"].status) == ("degraded", "down")
    # All workers count the same damaged files: they share one directory.
    report = await report_of(
        one, replace(two, refused=1, files_aside=2), replace(three, files_aside=2)
    )
    assert (report.status, report.services["gateway"].spool_set_aside) == ("degraded", 3)


async def test_concurrent_requests_share_one_report(gateway: FakeGateway) -> None:
    all_up(gateway)
    size, workers = SizeLimit(gateway.bus, 1024), Workers(gateway.queue)
    reports = HealthReports(gateway.bus, gateway.queue, gateway.secret, size, workers)
    with patch.object(gateway.bus.client, "flush", AsyncMock()):
        cancelled, *requests = [asyncio.create_task(reports.report()) for _ in range(50)]
        await asyncio.sleep(0)
        cancelled.cancel()
        responses = await asyncio.gather(*requests)
        assert len(gateway.bus.sent) == len(SERVICES) + 1
        assert {response.status for response in responses} == {"healthy"}
        # A later request is answered with a new report.
        gateway.bus.reply_with(INGEST_HEALTH, Unavailable("the ingest service is not running"))
        assert (await reports.report()).status == "degraded"


async def test_a_gateway_of_one_process_reports_no_workers(gateway: FakeGateway) -> None:
    all_up(gateway)
    assert set((await health(gateway))["services"]["gateway"]) == {"status", "uptime"}


async def test_a_credential_that_needs_reconnecting_or_is_unreadable_degrades_the_status(
    gateway: FakeGateway,
) -> None:
    all_up(gateway)
    refused = msgspec.structs.replace(STATUS, version=8, needs_reconnect=True)
    gateway.bus.reply_with(CREDENTIALS_STATUS, refused)
    document = await health(gateway)
    assert document["credentials"] == {"posthog": {"state": "needs_reconnect", "version": 8}}
    assert document["status"] == "degraded"
    gateway.bus.reply_with(CREDENTIALS_STATUS, msgspec.structs.replace(STATUS, oauth="unreadable"))
    assert (await health(gateway))["status"] == "degraded"
    gateway.bus.reply_with(CREDENTIALS_STATUS, msgspec.structs.replace(STATUS, oauth="absent"))
    assert (await health(gateway))["status"] == "healthy"


async def test_a_gateway_that_does_not_know_the_secret_is_not_ready(gateway: FakeGateway) -> None:
    ready = await gateway.http.get("/readyz")
    async with fake_gateway(secret=None, minted=None) as closed:
        unready = await closed.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"ready": True, "bus": "up", "webhookSecret": "known", "spooled": 0, "spoolFull": False},
    )
    assert (unready.status_code, unready.json()["webhookSecret"]) == (503, "unknown")


@pytest.mark.parametrize("path", ["/v1/health", "/livez", "/readyz"])
async def test_monitors_may_send_head_requests(gateway: FakeGateway, path: str) -> None:
    all_up(gateway)
    async with fake_gateway(secret=None, minted=None) as closed:
        for probed in (gateway, closed):
            get, head = await probed.http.get(path), await probed.http.head(path)
            assert (head.status_code, head.content) == (get.status_code, b"")
            assert head.headers["content-type"] == get.headers["content-type"]
            assert int(head.headers["content-length"]) > 0
    assert (await gateway.http.head("/v1/admin/events", headers=bearer())).status_code == 404


async def test_a_gateway_with_an_unreadable_secret_is_ready_for_admin_requests() -> None:
    unreadable = WebhookSecretReply(version=1, state="unreadable")
    async with fake_gateway(secret=None, minted=unreadable) as closed:
        ready = await closed.http.get("/readyz")
    assert (ready.status_code, ready.json()["webhookSecret"]) == (200, "unreadable")


async def test_a_full_spool_is_reported_and_admin_routes_stay_reachable(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, 1)
    async with fake_gateway(spool=spool) as full:
        full.bus.is_up = False
        full.bus.published.fail = lambda _message: Unavailable("NATS is not connected")
        refused = await full.http.post(
            "/v1/webhooks/posthog",
            json={"event": {"event": "signed_up", "distinct_id": "u_42"}},
            headers={"x-posthog-webhook-secret": SECRET},
        )
        ready = await full.http.get("/readyz")
        gateway = (await health(full))["services"]["gateway"]
    await spool.close()
    assert refused.status_code == 429
    assert (ready.status_code, ready.json()["spoolFull"]) == (200, True)
    assert (gateway["status"], gateway["waitsFor"]) == ("down", "room in the spool")


async def test_metrics_require_a_key(gateway: FakeGateway) -> None:
    assert (await gateway.http.get("/metrics")).status_code == 401
    metrics = await gateway.http.get("/metrics", headers=bearer())
    assert "hogsend_webhooks_accepted" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain")


async def test_request_metrics_are_labelled_with_the_route_template_and_not_the_path(
    gateway: FakeGateway,
) -> None:
    await gateway.http.get("/v1/admin/provider-credentials/u_42", headers=bearer())
    await gateway.http.get("/u_42/of/nobody")
    shown = (await gateway.http.get("/metrics", headers=bearer())).text
    measured = [line for line in shown.splitlines() if line.startswith("hogsend_http_request")]
    assert any('route="unmatched",status="404"' in line for line in measured)
    assert any('route="/v1/admin/provider-credentials/{' in line for line in measured)
    assert "u_42" not in "".join(measured)
