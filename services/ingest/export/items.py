"""What the items of an export look like: camelCase JSON, with properties as they are stored."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from hogsend.contract.dead_letters import read_letter
from hogsend.contract.json_memory import has_too_many_values
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.streams import StreamName
from services.ingest.stored_messages import StoredMessage

_encode = msgspec.json.Encoder().encode


def contact(row: Mapping[str, Any]) -> bytes:
    """A contact."""
    return _document(row, "properties")


def key(row: Mapping[str, Any]) -> bytes:
    """What leads to a contact: a user id, an address, or the id of one merged into it."""
    return _encode({"kind": row["kind"], "value": row["value"]})


def merge(row: Mapping[str, Any]) -> bytes:
    """A merge, with both contacts as they were."""
    return _document(row, "loser_before", "survivor_before", "loser_keys")


def event(row: Mapping[str, Any]) -> bytes:
    """A stored event."""
    return _document({name: row[name] for name in row.keys() if name != "position"}, "properties")  # noqa: SIM118


def audit_entry(row: Mapping[str, Any]) -> bytes:
    """An entry of the audit trail; where the administrator was is not about this person."""
    return _document(row)


def message(stream: StreamName, stored: StoredMessage) -> bytes:
    """A message of a stream; of a dead letter, the message that it is about, and why."""
    fields: dict[str, Any] = {
        "stream": str(stream),
        "sequence": stored.sequence,
        "at": stored.at,
    }
    body = stored.body
    if stream is StreamName.DEADLETTER:
        try:
            letter = read_letter(stored.headers, body)
        except NOT_JSON:
            pass
        else:
            fields |= {
                "originalStream": letter.stream,
                "subject": letter.subject,
                "reason": letter.reason,
                "detail": letter.detail,
                "headers": letter.headers,
            }
            body = letter.body
    return _encode({**fields, **_body(body)})


def too_large(size: int, position: str) -> bytes:
    """What stands for an item that no message of NATS can carry."""
    return _encode({"omitted": "it is larger than NATS carries", "bytes": size, "at": position})


def _body(body: bytes) -> dict[str, Any]:
    """A body as JSON; what is none, or takes too much memory, in base64: it need not be text."""
    try:
        is_shown = not has_too_many_values(body)
        if is_shown:
            msgspec.json.decode(body)
            body.decode()
    except NOT_JSON:
        is_shown = False
    if is_shown:
        return {"body": msgspec.Raw(body)}
    return {"bodyBase64": base64.b64encode(body).decode()}


def _document(row: Mapping[str, Any], *json: str) -> bytes:
    return _encode(
        {
            _camel(name): msgspec.Raw(value.encode()) if name in json and value else value
            for name, value in row.items()
        }
    )


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)
