"""Asks a running gateway through a client made from its OpenAPI document.

`python check.py http://127.0.0.1:3002 admin-key ingest-key`; `gateway_client` must be importable.
An answer with a status that is not documented raises, and one of another shape does not parse.
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
nobody = client_module.AuthenticatedClient(url, "wrong", **strict)


def ask(operation: str, model: str, *path: Any, client: Any = admin, **given: Any) -> Any:
    """Call `operation`, whose answer must be parsed as `model`."""
    found = import_module(f"gateway_client.api.{operation}").sync_detailed(
        *path, client=client, **given
    )
    assert isinstance(found.parsed, getattr(models, model)), (operation, found)
    return found.parsed


event = models.ReportedEvent.from_dict({"event": "signed_up", "userId": "py", "value": 3})
recorded = ask("events.record_event", "RecordedEvent", client=reporter, body=event)
page = ask("admin.list_events", "EventPage", user_id="py", limit=1)
assert page.events[0].contact_key == recorded.contact_key
assert page.events[0].properties.to_dict() == {"value": 3}

new = {"url": "posthog://capture", "eventTypes": ["email.sent"], "config": {"apiKey": "phc_py"}}
made = ask(
    "destinations.create_destination",
    "ShownDestination",
    body=models.NewDestination.from_dict(new),
)
off = models.DestinationChanges(disabled=True)
changed = ask("destinations.update_destination", "ShownDestination", made.id, body=off)
assert changed.status == "disabled"
listed = ask("destinations.list_destinations", "DestinationList")
assert listed.endpoints[0].id == made.id
ask("destinations.list_destination_deliveries", "DeliveryPage", made.id)
ask("destinations.test_destination", "TestQueued", made.id)
ask("destinations.rotate_destination_secret", "ErrorBody", made.id)
ask("destinations.delete_destination", "Deleted", made.id)
ask("destinations.get_destination", "ErrorBody", made.id)

for operation, model in (
    ("admin.list_audit_entries", "AuditPage"),
    ("admin.list_capabilities", "Capabilities"),
    ("admin.get_connect_info", "ConnectInfo"),
    ("admin.get_diagnosis", "DiagnosisBody"),
    ("admin.list_dead_letters", "DeadLetterPage"),
):
    ask(operation, model)
    ask(operation, "ErrorBody", client=nobody)
ask("admin.get_credential", "ErrorBody", "posthog")
empty = models.ReportedEvent.from_dict({"event": "", "userId": "py"})
ask("events.record_event", "ValidationBody", client=reporter, body=empty)
