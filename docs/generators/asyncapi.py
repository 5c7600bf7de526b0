"""Writes the AsyncAPI 3.0 document: what the services subscribe to, reply to and publish.

It is read from the routers of the services, not from the contract; a test checks that both agree.
Every subject is a channel.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

import msgspec
from faststream.nats.subscriber.usecases import LogicSubscriber

from hogsend import __version__
from hogsend.contract.field_docs import describe, describe_fields
from hogsend.contract.registry import Channel, Endpoint, channels
from hogsend.contract.subjects import intersection
from hogsend.contract.users import User
from hogsend.service.router import ServiceRouter

SERVICES = (User.GATEWAY, User.CREDENTIALS, User.PROVISIONER, User.INGEST, User.ANALYTICS)

Schema = dict[str, Any]
"""An object of the AsyncAPI document."""


def router_of(service: User) -> ServiceRouter:
    """The router on which a service declares its handlers."""
    router = importlib.import_module(f"services.{service}.handlers").router
    if not isinstance(router, ServiceRouter):
        raise TypeError(f"services.{service}.handlers.router is no ServiceRouter")
    return router


def document() -> str:
    """The whole document as JSON."""
    routers = {service: router_of(service) for service in SERVICES}
    built: Schema = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hogsend on NATS",
            "version": __version__,
            "description": "Subjects, requests and messages of Hogsend's services. NATS users, "
            "permissions and streams are described in docs/bus.md. Times are RFC 3339 in UTC, with "
            "or without a fraction of the second.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "The server that `make up` starts.",
            }
        },
        "channels": {},
        "operations": {},
        "components": {"messages": {}, "schemas": {}},
    }
    kinds: set[type] = set()
    for service, router in routers.items():
        for channel in _published(router):
            _add_channel(built, channel, kinds)
            _add_operation(built, service, "send", channel)
        for channel in _consumed(router):
            _add_channel(built, channel, kinds)
            _add_operation(built, service, "receive", channel)
        for endpoint in router.endpoints:
            _add_endpoint(built, endpoint, kinds)
    _add_messages(built, kinds)
    return json.dumps(built, indent=2, sort_keys=True) + "\n"


def subscribed_subjects(router: ServiceRouter) -> set[str]:
    """Subjects that a router's handlers subscribe to, without those of its endpoints."""
    requests = {endpoint.subject for endpoint in router.endpoints}
    subscribers = cast("list[LogicSubscriber[Any]]", router.subscribers)
    return {subscriber.subject.template for subscriber in subscribers} - requests


def _published(router: ServiceRouter) -> list[Channel]:
    return sorted(router.published, key=lambda channel: channel.subject)


def _consumed(router: ServiceRouter) -> list[Channel]:
    subjects = subscribed_subjects(router)
    return [c for c in channels() if any(intersection(c.subject, subject) for subject in subjects)]


def _add_channel(built: Schema, channel: Channel, kinds: set[type]) -> None:
    kinds.add(channel.message)
    described: Schema = {
        "address": channel.address,
        "title": channel.summary,
        "description": f"Stored in the stream {channel.stream}.",
        "messages": _message_refs([channel.message]),
    }
    if channel.parameter:
        described["parameters"] = {
            name: {"description": _parameter(channel)} for name in channel.parameter.split(".")
        }
    built["channels"][_id(channel.subject)] = described


def _add_operation(built: Schema, service: User, action: str, channel: Channel) -> None:
    name = _id(channel.subject)
    built["operations"][f"{service}-{action}-{name}"] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "title": f"{service} {'publishes' if action == 'send' else 'consumes'}",
        "summary": channel.summary,
        "tags": [{"name": str(service)}],
        "messages": [_in_channel(name, channel.message)],
    }


def _add_endpoint(built: Schema, endpoint: Endpoint[Any, Any], kinds: set[type]) -> None:
    kinds.update({endpoint.request, endpoint.reply})
    name = _id(endpoint.subject)
    built["channels"][name] = {
        "address": endpoint.subject,
        "title": endpoint.summary,
        "messages": _message_refs([endpoint.request]),
    }
    built["channels"][f"{name}-reply"] = {
        "address": None,
        "title": f"Replies of {endpoint.service}.{endpoint.verb}",
        "description": "Sent to the reply subject of the request. An error has no body, but the "
        "headers `Nats-Service-Error-Code` and `Nats-Service-Error`.",
        "messages": _message_refs([endpoint.reply]),
    }
    built["operations"][f"{endpoint.service}-answer-{endpoint.verb}"] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "title": f"{endpoint.service} replies",
        "summary": endpoint.summary,
        "description": f"Callers: {', '.join(endpoint.callers)}. "
        f"A caller waits {endpoint.deadline:g} s for the reply.",
        "tags": [{"name": str(endpoint.service)}],
        "messages": [_in_channel(name, endpoint.request)],
        "reply": {
            "channel": {"$ref": f"#/channels/{name}-reply"},
            "messages": [_in_channel(f"{name}-reply", endpoint.reply)],
        },
    }


def _add_messages(built: Schema, kinds: Iterable[type]) -> None:
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    messages = {kind.__name__: kind for kind in _messages(msgspec.Struct)}
    for name, schema in schemas.items():
        schema["description"] = describe(messages[name])
        for field, description in describe_fields(messages[name]).items():
            # Keywords beside `$ref` are ignored (JSON Schema draft 7, 8.3).
            if "$ref" not in (described := schema["properties"][field]):
                described["description"] = description
    built["components"]["schemas"] = schemas
    built["components"]["messages"] = {
        kind.__name__: {
            "name": kind.__name__,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
        for kind in ordered
    }


def _messages(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """All Structs of the contract, also those that are part of a message."""
    for kind in base.__subclasses__():
        if kind.__module__.startswith("hogsend.contract."):
            yield kind
        yield from _messages(kind)


def _message_refs(kinds: Iterable[type]) -> Schema:
    return {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in kinds}


def _in_channel(channel: str, kind: type) -> Schema:
    return {"$ref": f"#/channels/{channel}/messages/{kind.__name__}"}


def _parameter(channel: Channel) -> str:
    if channel.subject.endswith(">"):
        return "One or more subject tokens, separated by dots."
    return "One subject token, escaped as described in docs/bus.md."


def _id(subject: str) -> str:
    """Id of a channel: the subject without prefix and wildcards, and their number if several."""
    name = re.sub(r"\.?[*>]", "", subject.removeprefix("hogsend.")).replace(".", "-")
    wildcards = subject.count("*")
    return f"{name}-{wildcards}" if wildcards > 1 else name
