"""The AsyncAPI 3.0 document: what the services' routers subscribe to, answer and publish.

Read from the routers themselves, and not from a list of what they should do; that both are the same
is tested. Every subject is a channel of its own.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any, cast

import msgspec
from faststream.nats.subscriber.usecases import LogicSubscriber

from hogsend import __version__
from hogsend.contract.registry import Channel, Endpoint, channels
from hogsend.contract.users import User
from hogsend.service.router import ServiceRouter

SERVICES = (User.GATEWAY, User.CREDENTIALS, User.PROVISIONER, User.INGEST, User.ANALYTICS)

Schema = dict[str, Any]
"""A part of a JSON document that others define."""


def router_of(service: User) -> ServiceRouter:
    """The router a service declares its handlers on."""
    router = importlib.import_module(f"services.{service}.handlers").router
    if not isinstance(router, ServiceRouter):
        raise TypeError(f"services.{service}.handlers.router is no ServiceRouter")
    return router


def document() -> str:
    """The whole document, as JSON."""
    routers = {service: router_of(service) for service in SERVICES}
    built: Schema = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hogsend on NATS",
            "version": __version__,
            "description": "Subjects, requests and messages of Hogsend's services. Users, "
            "permissions and streams are in docs/bus.md.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "What `make up` starts.",
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
    """Subjects a router consumes or hears of, requests aside."""
    answered = {endpoint.subject for endpoint in router.endpoints}
    subscribers = cast("list[LogicSubscriber[Any]]", router.subscribers)
    return {one.subject.template for one in subscribers} - answered


def _published(router: ServiceRouter) -> list[Channel]:
    return sorted(router.published, key=lambda channel: channel.subject)


def _consumed(router: ServiceRouter) -> list[Channel]:
    subjects = subscribed_subjects(router)
    return [channel for channel in channels() if any(overlap(channel.subject, s) for s in subjects)]


def overlap(pattern: str, other: str) -> bool:
    """Whether some subject matches both of two NATS patterns."""
    one, two = pattern.split("."), other.split(".")
    for mine, theirs in zip(one, two, strict=False):
        if ">" in {mine, theirs}:
            return True
        if mine != theirs and "*" not in {mine, theirs}:
            return False
    return len(one) == len(two)


def _add_channel(built: Schema, channel: Channel, kinds: set[type]) -> None:
    kinds.add(channel.message)
    described: Schema = {
        "address": channel.address,
        "title": channel.summary,
        "description": f"Kept in the stream {channel.stream}.",
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
        "description": "Sent to the inbox the request names. An error is a message without a "
        "body, with `Nats-Service-Error-Code` and `Nats-Service-Error` in its headers.",
        "messages": _message_refs([endpoint.reply]),
    }
    built["operations"][f"{endpoint.service}-answer-{endpoint.verb}"] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "title": f"{endpoint.service} answers",
        "summary": endpoint.summary,
        "description": f"Asked by {', '.join(endpoint.callers)}; waits {endpoint.deadline:g} s.",
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
    for schema in schemas.values():
        if "description" in schema:
            # Python 3.13 takes the indentation out of docstrings by itself.
            schema["description"] = cleandoc(schema["description"])
    built["components"]["schemas"] = schemas
    built["components"]["messages"] = {
        kind.__name__: {
            "name": kind.__name__,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
        for kind in ordered
    }


def _message_refs(kinds: Iterable[type]) -> Schema:
    return {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in kinds}


def _in_channel(channel: str, kind: type) -> Schema:
    return {"$ref": f"#/channels/{channel}/messages/{kind.__name__}"}


def _parameter(channel: Channel) -> str:
    if channel.subject.endswith(">"):
        return "One token or several, separated by dots."
    return "One subject token, escaped as docs/bus.md says."


def _id(subject: str) -> str:
    """A channel's id: the subject without its prefix, and of several wildcards only how many."""
    named = re.sub(r"\.?[*>]", "", subject.removeprefix("hogsend.")).replace(".", "-")
    wildcards = subject.count("*")
    return f"{named}-{wildcards}" if wildcards > 1 else named
