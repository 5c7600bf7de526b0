"""Streams and their consumers, brought up to what is declared, and made again when lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import stamina
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServiceUnavailableError

from hogsend.contract.consumers import STREAMS_OF_OTHERS
from hogsend.contract.streams import (
    DEFAULT_LIMITS,
    STREAMS,
    Limits,
    StreamName,
    patterns,
)
from hogsend.contract.users import User
from hogsend.service import metrics

_STREAM_NAME_IN_USE = 10058

_INVALID_JSON = 10025
"""JetStream cannot read a request, for example one with a field that it does not know."""

_NO_STORE = 10049
"""JetStream cannot make a stream's store, as while it deletes the one of an earlier stream."""

_NO_ROOM = frozenset({10002, 10028, 10047})
"""JetStream refuses to reserve so much, for the account or on the disk."""


async def reconcile(js: JetStreamContext, owner: User, limits: Limits = DEFAULT_LIMITS) -> None:
    """Create the streams `owner` owns, or bring their limits up to what is declared here.

    Copies are added and never given up: a NATS_REPLICAS that went missing must not take two of
    three. The service's health says so (`hogsend.service.bus_health`).

    Raises:
        nats.js.errors.APIError: the server refuses, for example because an existing stream has
            another retention policy or storage is short.
    """
    for name in _owned_by(owner):
        config = limits.applied_to(STREAMS[name].config)
        if not await _create(js, config):
            config = await _with_as_many_copies(js, config)
            await _with_known_fields(js.update_stream, config)


async def restore(
    js: JetStreamContext, owner: User, limits: Limits = DEFAULT_LIMITS
) -> list[StreamName]:
    """Create the streams of `owner` that are gone, name them, and measure the others.

    Those that exist stay as they are: two versions of a service may declare different limits.

    Raises:
        nats.js.errors.APIError: the server refuses.
    """
    made = []
    for name in _owned_by(owner):
        try:
            info = await js.stream_info(name)
        except NotFoundError:
            _forget(name)
            if await _create(js, limits.applied_to(STREAMS[name].config)):
                made.append(name)
            continue
        _measure(name, info)
    return made


def _measure(name: StreamName, info: StreamInfo) -> None:
    metrics.STREAM_MESSAGES.labels(name).set(info.state.messages)
    metrics.STREAM_BYTES.labels(name).set(info.state.bytes)
    if (limit := info.config.max_bytes or 0) > 0:
        metrics.STREAM_LIMIT_BYTES.labels(name).set(limit)
    else:
        metrics.STREAM_LIMIT_BYTES.remove(name)


def _forget(name: StreamName) -> None:
    """Take a stream's figures away: they would stay while it cannot be made."""
    for gauge in (metrics.STREAM_MESSAGES, metrics.STREAM_BYTES, metrics.STREAM_LIMIT_BYTES):
        gauge.remove(name)


def _owned_by(owner: User) -> list[StreamName]:
    return [name for name, stream in STREAMS.items() if stream.owner is owner]


async def purge_strays(js: JetStreamContext, owner: User) -> dict[str, int]:
    """Delete copies of other streams' messages from the streams of `owner`, and count them.

    JetStream delivers a message to whatever subject a reader names, also to one of a stream
    (docs/adr/0012). The copy keeps its own subject, so that no consumer ever reads it, and a stream
    that refuses what it has no room for would fill up with such copies.

    Raises:
        nats.js.errors.APIError: the server refuses.
    """
    purged: dict[str, int] = {}
    for name in _owned_by(owner):
        foreign = [
            pattern
            for stream in STREAMS_OF_OTHERS
            if stream is not name
            for pattern in patterns(stream)
        ]
        for pattern in foreign:
            try:
                found = (await js.stream_info(name, pattern)).state.subjects
            except NotFoundError:
                continue
            if found:
                await js.purge_stream(name, subject=pattern)
                purged[name] = purged.get(name, 0) + sum(found.values())
    return purged


def hint(error: Exception) -> str | None:
    """What an operator can do about a stream that cannot be made, where that is known."""
    if isinstance(error, APIError) and error.err_code in _NO_ROOM:
        return (
            "raise max_file_store of nats-server, by default three quarters of the free disk, "
            "or set NATS_STREAM_MAX_BYTES lower"
        )
    if _finds_no_jetstream(error):
        return "unless it is starting, run nats-server with JetStream (--jetstream)"
    return None


def reason(error: Exception) -> str:
    """What went wrong, in words also where nats-py has none."""
    return "no JetStream answers on this NATS server" if _finds_no_jetstream(error) else str(error)


def _finds_no_jetstream(error: Exception) -> bool:
    # JetStream's own refusals have a code; without it, nothing listens to its API.
    return isinstance(error, ServiceUnavailableError) and error.err_code is None


async def _with_as_many_copies(js: JetStreamContext, config: StreamConfig) -> StreamConfig:
    found = (await js.stream_info(config.name or "")).config.num_replicas or 1
    return config.evolve(num_replicas=max(found, config.num_replicas or 1))


def _has_no_store_yet(error: Exception) -> bool:
    return isinstance(error, APIError) and error.err_code == _NO_STORE


async def _with_known_fields(
    ask: Callable[[StreamConfig], Awaitable[StreamInfo]], config: StreamConfig
) -> None:
    """Ask for a stream, without `allow_batched` where the server refuses unknown fields.

    nats-server 2.12 does, and does not know this one. Only replicas of the version before need it.
    """
    try:
        await ask(config)
    except BadRequestError as error:
        if error.err_code != _INVALID_JSON or not config.allow_batched:
            raise
        await ask(config.evolve(allow_batched=None))


async def _create(js: JetStreamContext, config: StreamConfig) -> bool:
    """Create one stream; False when there is one of that name with other limits."""
    try:
        async for attempt in stamina.retry_context(
            on=_has_no_store_yet, attempts=5, wait_initial=0.1, wait_max=1.0
        ):
            with attempt:
                await _with_known_fields(js.add_stream, config)
    except BadRequestError as error:
        if error.err_code != _STREAM_NAME_IN_USE:
            raise
        return False
    return True
