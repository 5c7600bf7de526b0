"""Sends requests to a running gateway with a client generated from its OpenAPI document.

`python check.py http://127.0.0.1:3002 admin-key ingest-key`; `gateway_client` must be importable.
A response with an undocumented status raises an error; one of another shape does not parse.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

client_module = import_module("gateway_client.client")
models = import_module("gateway_client.models")

url, admin_key, ingest_key = sys.argv[1:]
strict = {"raise_on_unexpected_status": True}
admin = client_module.AuthenticatedClient(url, admin_key, **strict)
reporter = client_module.AuthenticatedClient(url, ingest_key, **strict)
with_wrong_key = client_module.AuthenticatedClient(url, "wrong", **strict)


def call(operation: str, model: str, *path: Any, client: Any = admin, **options: Any) -> Any:
    """Call `operation`, whose response must be parsed as `model`."""
    response = import_module(f"gateway_client.api.{operation}").sync_detailed(
        *path, client=client, **options
    )
    assert isinstance(response.parsed, getattr(models, model)), (operation, response)
    return response.parsed


event = models.ReportedEvent.from_dict({"event": "signed_up", "userId": "py", "value": 3})
recorded = call("events.record_event", "RecordedEvent", client=reporter, body=event)
page = call("admin.list_events", "EventPage", user_id="py", limit=1)
assert page.events[0].contact_key == recorded.contact_key
assert page.events[0].properties.to_dict() == {"value": 3}

new = {"url": "posthog://capture", "eventTypes": ["email.sent"], "config": {"apiKey": "phc_py"}}
created = call(
    "destinations.create_destination",
    "ShownDestination",
    body=models.NewDestination.from_dict(new),
)
off = models.DestinationChanges(disabled=True)
changed = call("destinations.update_destination", "ShownDestination", created.id, body=off)
assert changed.status == "disabled"
listed = call("destinations.list_destinations", "DestinationList")
assert listed.endpoints[0].id == created.id
call("destinations.list_destination_deliveries", "DeliveryPage", created.id)
call("destinations.test_destination", "TestQueued", created.id)
call("destinations.rotate_destination_secret", "ErrorBody", created.id)
call("destinations.delete_destination", "Deleted", created.id)
call("destinations.get_destination", "ErrorBody", created.id)

for operation, model in (
    ("admin.list_audit_entries", "AuditPage"),
    ("admin.list_capabilities", "Capabilities"),
    ("admin.get_connect_info", "ConnectInfo"),
    ("admin.get_diagnosis", "DiagnosisBody"),
    ("admin.list_dead_letters", "DeadLetterPage"),
):
    call(operation, model)
    call(operation, "ErrorBody", client=with_wrong_key)
call("admin.get_credential", "ErrorBody", "posthog")
empty = models.ReportedEvent.from_dict({"event": "", "userId": "py"})
call("events.record_event", "ValidationBody", client=reporter, body=empty)
