"""Encodes the items of an export: camelCase JSON, with properties as they are stored."""

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
    """Encode a contact."""
    return _document(row, "properties")


def key(row: Mapping[str, Any]) -> bytes:
    """Encode a key of a contact: a user id, an address, or the id of a contact merged into it."""
    return _encode({"kind": row["kind"], "value": row["value"]})


def merge(row: Mapping[str, Any]) -> bytes:
    """Encode a merge, with both contacts as they were before it."""
    return _document(row, "loser_before", "survivor_before", "loser_keys")


def event(row: Mapping[str, Any]) -> bytes:
    """Encode a stored event."""
    return _document({name: row[name] for name in row.keys() if name != "position"}, "properties")  # noqa: SIM118


def audit_entry(row: Mapping[str, Any]) -> bytes:
    """Encode an entry of the audit trail, without the administrator's address."""
    return _document(row)


def message(stream: StreamName, stored: StoredMessage) -> bytes:
    """Encode a message of a stream; of a dead letter, the original message and the reason."""
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
    """Encode the replacement of an item that is too large for a message of NATS."""
    return _encode({"omitted": "it is larger than NATS carries", "bytes": size, "at": position})


def _body(body: bytes) -> dict[str, Any]:
    """A message's body as JSON; in base64 if it is not JSON, or decoding takes too much memory."""
    try:
        is_readable = not has_too_many_values(body)
        if is_readable:
            msgspec.json.decode(body)
            body.decode()
    except NOT_JSON:
        is_readable = False
    if is_readable:
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
