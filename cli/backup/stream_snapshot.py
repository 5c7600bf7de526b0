"""Snapshot and restore of one JetStream stream with its consumers (API of NATS ADR-43).

The files have the format of `nats stream backup`, so either tool restores the other's backups:
`<stream>/backup.json` has configuration and state, `<stream>/stream.tar.s2` the content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from cli.stack.data_directory import write_private
from hogsend.contract.json_text import NOT_JSON

CHUNK_BYTES = 128 * 1024
REPLY_SECONDS = 30.0
"""Timeout of a request to JetStream, and of one chunk."""

UPLOAD_ATTEMPTS = 100
UPLOAD_PAUSE_SECONDS = 0.1
_END_OF_FILE = "204"
"""Status header that ends a snapshot."""
_NOT_FOUND = 10059
"""JetStream's error code for a stream that does not exist."""

Progress = Callable[[str, int], None]
"""Called with the name of a stream and the number of bytes transferred so far."""


class StreamError(Exception):
    """NATS refused, or a backup is not readable. The text is safe to print."""

    def __init__(self, problem: str, fix: str = "see NATS' log, then run it again") -> None:
        super().__init__(problem)
        self.fix = fix


class Saved(msgspec.Struct, frozen=True):
    """Configuration and state of a saved stream, as the server reports them."""

    config: dict[str, Any]
    state: dict[str, Any]

    @property
    def messages(self) -> int:
        """Messages in the stream."""
        return int(self.state.get("messages", 0))


class StreamResult(msgspec.Struct, frozen=True):
    """A stream that was saved or restored."""

    stream: str
    messages: int
    bytes: int


class _Error(msgspec.Struct, frozen=True):
    description: str
    err_code: int = 0


class _Reply(msgspec.Struct, frozen=True):
    config: dict[str, Any] = {}
    state: dict[str, Any] = {}
    deliver_subject: str = ""
    error: _Error | None = None


class _Snapshot(msgspec.Struct, frozen=True):
    deliver_subject: str
    no_consumers: bool = False
    chunk_size: int = CHUNK_BYTES
    jsck: bool = True


async def save(
    client: Client, stream: str, directory: Path, progress: Progress
) -> StreamResult | None:
    """Save a stream; returns None if it does not exist.

    Args:
        client: connected as the operator.
        stream: name of the stream.
        directory: target directory, without an earlier backup.
        progress: called for every chunk.

    Raises:
        StreamError: NATS refuses, or stops sending.
    """
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    reply = await _call(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", _Snapshot(inbox))
    if reply.error is not None:
        if reply.error.err_code == _NOT_FOUND:
            return None
        raise StreamError(f"{stream}: {reply.error.description}")
    target = directory / stream
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    part, size = target / "stream.tar.s2.part", 0
    with part.open("wb") as file:
        part.chmod(0o600)
        while chunk := await _next(subscription, stream):
            file.write(chunk.data)
            size += len(chunk.data)
            progress(stream, size)
            # Flow control: the server pauses after a few chunks until it gets this reply.
            if chunk.reply:
                await client.publish(chunk.reply)
    await subscription.unsubscribe()
    saved = Saved(reply.config, reply.state)
    part.replace(target / "stream.tar.s2")
    write_private(target / "backup.json", msgspec.json.encode(saved).decode())
    return StreamResult(stream, saved.messages, size)


async def restore(
    client: Client, source: Path, progress: Progress, *, copies: int | None = None
) -> StreamResult:
    """Restore a saved stream, which must not exist in NATS.

    Args:
        client: connected as the operator.
        source: directory of one stream in a backup.
        progress: called for every chunk.
        copies: number of replicas; None for as many as the saved stream had.

    Raises:
        StreamError: the stream exists, the backup is not readable, or NATS refuses it.
    """
    stream = source.name
    try:
        saved = msgspec.json.decode((source / "backup.json").read_bytes(), type=Saved)
        content = (source / "stream.tar.s2").open("rb")
    except (OSError, *NOT_JSON) as error:
        raise StreamError(
            f"{source} is not a backup of a stream ({error})", "restore another backup"
        ) from error
    if copies is not None:
        saved = msgspec.structs.replace(saved, config={**saved.config, "num_replicas": copies})
    with content:
        reply = await _call(client, f"$JS.API.STREAM.RESTORE.{stream}", saved)
        if reply.error is not None:
            fix = "restore into a NATS without streams, before any service is started"
            raise StreamError(f"{stream}: {reply.error.description}", fix)
        size = 0
        for chunk in _chunks(content):
            await _upload(client, reply.deliver_subject, chunk)
            size += len(chunk)
            progress(stream, size)
        # An empty chunk ends the upload; only its reply has a body.
        result = _decode(await _upload(client, reply.deliver_subject, b""))
    if result.error is not None:
        raise StreamError(f"{stream}: {result.error.description}")
    return StreamResult(stream, int(result.state.get("messages", saved.messages)), size)


async def delete(client: Client, stream: str) -> None:
    """Delete a stream if it exists.

    Raises:
        StreamError: NATS refuses.
    """
    reply = _decode(await _request(client, f"$JS.API.STREAM.DELETE.{stream}", b""))
    if reply.error is not None and reply.error.err_code != _NOT_FOUND:
        raise StreamError(f"{stream}: {reply.error.description}")


async def count_removed(client: Client, stream: str) -> int:
    """Return how many messages have been removed from a stream so far.

    Raises:
        StreamError: NATS does not reply.
    """
    reply = _decode(await _request(client, f"$JS.API.STREAM.INFO.{stream}", b""))
    return int(reply.state.get("last_seq", 0)) - int(reply.state.get("messages", 0))


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


async def _next(subscription: Any, stream: str) -> Msg | None:
    try:
        message: Msg = await subscription.next_msg(timeout=REPLY_SECONDS)
    except (nats.errors.Error, TimeoutError) as error:
        raise StreamError(f"{stream}: NATS stopped sending the snapshot") from error
    if message.data:
        return message
    status = (message.headers or {}).get("Status", _END_OF_FILE)
    if status != _END_OF_FILE:
        description = (message.headers or {}).get("Description", status)
        raise StreamError(f"{stream}: {description}")
    return None


async def _call(client: Client, subject: str, body: msgspec.Struct) -> _Reply:
    return _decode(await _request(client, subject, msgspec.json.encode(body)))


async def _upload(client: Client, subject: str, chunk: bytes) -> bytes:
    """Send a chunk of a stream.

    In a cluster, the server that receives the chunks may be another one, and its subscription takes
    a moment to reach this server. Until then there are no responders.
    """
    for _ in range(UPLOAD_ATTEMPTS):
        try:
            return bytes((await client.request(subject, chunk, timeout=REPLY_SECONDS)).data)
        except nats.errors.NoRespondersError:
            await asyncio.sleep(UPLOAD_PAUSE_SECONDS)
        except (TimeoutError, nats.errors.Error):
            break
    raise StreamError("NATS stopped accepting the stream")


async def _request(client: Client, subject: str, body: bytes) -> bytes:
    try:
        return bytes((await client.request(subject, body, timeout=REPLY_SECONDS)).data)
    except (TimeoutError, nats.errors.Error) as error:
        raise StreamError(
            "JetStream does not reply", "start NATS, or set NATS_URL to the one in operator.env"
        ) from error


def _decode(reply: bytes) -> _Reply:
    return msgspec.json.decode(reply or b"{}", type=_Reply)
