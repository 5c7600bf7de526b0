"""Creates and updates the JetStream streams of a service, and recreates them when they are lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import stamina
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServiceUnavailableError

from hogsend.contract.consumers import EXTERNAL_STREAMS
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
"""JetStream cannot decode a request, for example because of a field that it does not know."""

_NO_STORE = 10049
"""JetStream cannot create the store of a stream, for example while it deletes an earlier one."""

_INSUFFICIENT_STORAGE = frozenset({10002, 10028, 10047})
"""JetStream cannot reserve the storage, because of a limit of the account or the free disk."""


async def reconcile(js: JetStreamContext, owner: User, limits: Limits = DEFAULT_LIMITS) -> None:
    """Create the streams that `owner` owns, or update them to their declarations and `limits`.

    Replicas of a stream are added, but never removed: if NATS_REPLICAS is lost by mistake, no
    copies of the data may be deleted. The service's health reports surplus replicas
    (`hogsend.service.bus_health`).

    Raises:
        nats.js.errors.APIError: the server refused, for example because an existing stream has
            another retention policy, or because there is not enough storage.
    """
    for name in _owned_by(owner):
        config = limits.applied_to(STREAMS[name].config)
        if not await _create(js, config):
            config = await _with_existing_replicas(js, config)
            await _with_supported_fields(js.update_stream, config)


async def recreate_missing(
    js: JetStreamContext, owner: User, limits: Limits = DEFAULT_LIMITS
) -> list[StreamName]:
    """Create the missing streams of `owner`, and update the metrics of the existing ones.

    Existing streams are not changed: while two versions of a service run, they may declare
    different limits.

    Returns:
        The streams that were created.

    Raises:
        nats.js.errors.APIError: the server refused.
    """
    created = []
    for name in _owned_by(owner):
        try:
            info = await js.stream_info(name)
        except NotFoundError:
            _remove_metrics(name)
            if await _create(js, limits.applied_to(STREAMS[name].config)):
                created.append(name)
            continue
        _update_metrics(name, info)
    return created


def _update_metrics(name: StreamName, info: StreamInfo) -> None:
    metrics.STREAM_MESSAGES.labels(name).set(info.state.messages)
    metrics.STREAM_BYTES.labels(name).set(info.state.bytes)
    if (limit := info.config.max_bytes or 0) > 0:
        metrics.STREAM_LIMIT_BYTES.labels(name).set(limit)
    else:
        metrics.STREAM_LIMIT_BYTES.remove(name)


def _remove_metrics(name: StreamName) -> None:
    """Remove a missing stream's metrics; their last values would stay until it is recreated."""
    for gauge in (metrics.STREAM_MESSAGES, metrics.STREAM_BYTES, metrics.STREAM_LIMIT_BYTES):
        gauge.remove(name)


def _owned_by(owner: User) -> list[StreamName]:
    return [name for name, stream in STREAMS.items() if stream.owner is owner]


async def purge_strays(js: JetStreamContext, owner: User) -> dict[str, int]:
    """Delete copies of other streams' messages from the streams of `owner`.

    JetStream delivers to any subject that the reader of a stream chooses, also to a subject of
    another stream (docs/adr/0012). That stream stores the copy under the subject of the original,
    so no consumer reads it. Such copies would fill up a stream that rejects new messages when it is
    full.

    Returns:
        The number of deleted messages by stream.

    Raises:
        nats.js.errors.APIError: the server refused.
    """
    purged: dict[str, int] = {}
    for name in _owned_by(owner):
        foreign = [
            pattern
            for stream in EXTERNAL_STREAMS
            if stream is not name
            for pattern in patterns(stream)
        ]
        for pattern in foreign:
            try:
                counts = (await js.stream_info(name, pattern)).state.subjects
            except NotFoundError:
                continue
            if counts:
                await js.purge_stream(name, subject=pattern)
                purged[name] = purged.get(name, 0) + sum(counts.values())
    return purged


def hint(error: Exception) -> str | None:
    """Return what an operator can do about a stream that cannot be created; None if unknown."""
    if isinstance(error, APIError) and error.err_code in _INSUFFICIENT_STORAGE:
        return (
            "raise max_file_store of nats-server, by default three quarters of the free disk, "
            "or set NATS_STREAM_MAX_BYTES lower"
        )
    if _is_without_jetstream(error):
        return "unless it is starting, run nats-server with JetStream (--jetstream)"
    return None


def reason(error: Exception) -> str:
    """Return the text of an error, also of one that nats-py raises without a text."""
    if _is_without_jetstream(error):
        return "no JetStream answers on this NATS server"
    return str(error) or type(error).__name__


def _is_without_jetstream(error: Exception) -> bool:
    # Errors of JetStream itself have a code. Without one, nothing is subscribed to its API.
    return isinstance(error, ServiceUnavailableError) and error.err_code is None


async def _with_existing_replicas(js: JetStreamContext, config: StreamConfig) -> StreamConfig:
    existing = (await js.stream_info(config.name or "")).config.num_replicas or 1
    return config.evolve(num_replicas=max(existing, config.num_replicas or 1))


def _has_no_store_yet(error: Exception) -> bool:
    return isinstance(error, APIError) and error.err_code == _NO_STORE


@stamina.retry(on=_has_no_store_yet, attempts=5, wait_initial=0.1, wait_max=1.0)
async def _add(js: JetStreamContext, config: StreamConfig) -> None:
    await _with_supported_fields(js.add_stream, config)


async def _with_supported_fields(
    request: Callable[[StreamConfig], Awaitable[StreamInfo]], config: StreamConfig
) -> None:
    """Create or update a stream, without `allow_batched` if the server rejects that field.

    nats-server 2.12 rejects unknown fields, and does not know this one. Only replicas of the
    previous version of Hogsend need it.
    """
    try:
        await request(config)
    except BadRequestError as error:
        if error.err_code != _INVALID_JSON or not config.allow_batched:
            raise
        await request(config.evolve(allow_batched=None))


async def _create(js: JetStreamContext, config: StreamConfig) -> bool:
    """Create a stream; False if one of that name exists with another configuration.

    False as well if one exists for which JetStream could not reserve the storage again: it checks
    the storage before it looks for an existing stream. Otherwise no service would start while
    other streams reserve the rest of the storage.
    """
    try:
        await _add(js, config)
    except APIError as error:
        if error.err_code == _STREAM_NAME_IN_USE:
            return False
        if error.err_code in _INSUFFICIENT_STORAGE and await _exists(js, config.name or ""):
            return False
        raise
    return True


async def _exists(js: JetStreamContext, name: str) -> bool:
    try:
        await js.stream_info(name)
    except NotFoundError:
        return False
    return True
