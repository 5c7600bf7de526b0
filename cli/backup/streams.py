"""Snapshot and restore of JetStream streams, consumers included (NATS ADR-43's API).

The files are those of `nats stream backup`, so either tool restores what the other saved:
`<stream>/backup.json` has configuration and state, `<stream>/stream.tar.s2` the content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from cli.stack.data_directory import write_private
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.streams import StreamName

CHUNK_BYTES = 128 * 1024
ANSWER_SECONDS = 30.0
"""Seconds the server may take for one answer or chunk."""

SAVE_ATTEMPTS = 3
UPLOAD_ATTEMPTS = 100
UPLOAD_PAUSE_SECONDS = 0.1
SAVING_ORDER = (
    StreamName.WEBHOOKS,
    StreamName.AUDIT,
    StreamName.ENGAGEMENT,
    StreamName.EVENTS,
    StreamName.PERSONS,
    StreamName.CREDENTIALS,
    StreamName.DEADLETTER,
)
"""From where messages come in to where they end: what ingest takes from WEBHOOKS and
ENGAGEMENT it publishes to EVENTS and PERSONS, and what cannot be processed goes to DEADLETTER."""

_END_OF_FILE = "204"
_NOT_FOUND = 10059

Progress = Callable[[str, int], None]
"""Called with a stream and the number of bytes done."""


class StreamError(Exception):
    """The server refused, or a backup is not readable. The text is safe to print."""

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


class Done(msgspec.Struct, frozen=True):
    """One stream that was saved or restored."""

    stream: str
    messages: int
    bytes: int


class _Problem(msgspec.Struct, frozen=True):
    description: str
    err_code: int = 0


class _Answer(msgspec.Struct, frozen=True):
    config: dict[str, Any] = {}
    state: dict[str, Any] = {}
    deliver_subject: str = ""
    error: _Problem | None = None


class _Snapshot(msgspec.Struct, frozen=True):
    deliver_subject: str
    no_consumers: bool = False
    chunk_size: int = CHUNK_BYTES
    jsck: bool = True


async def save(client: Client, stream: str, directory: Path, progress: Progress) -> Done | None:
    """Save a stream; returns None if it does not exist.

    Args:
        client: connected as a user that may use JetStream's API, the operator.
        stream: its name.
        directory: target, without an earlier backup.
        progress: called for every chunk.

    Raises:
        StreamError: the server refuses, or stops sending.
    """
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    answer = await _ask(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", _Snapshot(inbox))
    if answer.error is not None:
        if answer.error.err_code == _NOT_FOUND:
            return None
        raise StreamError(f"{stream}: {answer.error.description}")
    target = directory / stream
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    part, size = target / "stream.tar.s2.part", 0
    with part.open("wb") as file:
        part.chmod(0o600)
        while chunk := await _next(subscription, stream):
            file.write(chunk.data)
            size += len(chunk.data)
            progress(stream, size)
            # Flow control: the server waits for it after a few chunks.
            if chunk.reply:
                await client.publish(chunk.reply)
    await subscription.unsubscribe()
    saved = Saved(answer.config, answer.state)
    part.replace(target / "stream.tar.s2")
    write_private(target / "backup.json", msgspec.json.encode(saved).decode())
    return Done(stream, saved.messages, size)


async def restore(
    client: Client, source: Path, progress: Progress, *, copies: int | None = None
) -> Done:
    """Restore a saved stream; it must not exist.

    Args:
        client: connected as a user that may use JetStream's API, the operator.
        source: directory of one stream in a backup.
        progress: called for every chunk.
        copies: on how many servers, where that is another number than when it was saved.

    Raises:
        StreamError: it exists, the backup is not readable, or the server refuses it.
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
        answer = await _ask(client, f"$JS.API.STREAM.RESTORE.{stream}", saved)
        if answer.error is not None:
            fix = "restore into a NATS without streams, before any service is started"
            raise StreamError(f"{stream}: {answer.error.description}", fix)
        size = 0
        for chunk in _chunks(content):
            await _upload(client, answer.deliver_subject, chunk)
            size += len(chunk)
            progress(stream, size)
        # An empty chunk ends the upload; only its answer has a body.
        ended = _decode(await _upload(client, answer.deliver_subject, b""))
    if ended.error is not None:
        raise StreamError(f"{stream}: {ended.error.description}")
    return Done(stream, int(ended.state.get("messages", saved.messages)), size)


async def restore_all(
    client: Client, directory: Path, progress: Progress, *, copies: int | None = None
) -> list[Done]:
    """Restore every stream of a backup, or none: what was restored before a failure is removed.

    Raises:
        StreamError: see `restore`; or there is no backup.
    """
    done: list[Done] = []
    try:
        for source in saved_streams(directory):
            one = await restore(client, source, progress, copies=copies)
            done.append(one)
    except BaseException:
        for one in done:
            await delete(client, one.stream)
        raise
    return done


async def delete(client: Client, stream: str) -> None:
    """Delete a stream, if there is one.

    Raises:
        StreamError: the server refuses.
    """
    answer = _decode(await _request(client, f"$JS.API.STREAM.DELETE.{stream}", b""))
    if answer.error is not None and answer.error.err_code != _NOT_FOUND:
        raise StreamError(f"{stream}: {answer.error.description}")


async def save_all(client: Client, directory: Path, progress: Progress) -> list[Done]:
    """Save every stream, so that nothing is missing that was accepted before this began.

    Those that messages come from are saved before those that they go to, and PostgreSQL has to be
    saved after all: what moves on meanwhile is then in both, and is recognised by its id. Only a
    replayed dead letter goes the other way; when one was, all are saved again.

    Raises:
        StreamError: see `save`.
    """
    for _ in range(SAVE_ATTEMPTS):
        before = await _removed(client, StreamName.DEADLETTER)
        done = [await save(client, name, directory, progress) for name in SAVING_ORDER]
        if await _removed(client, StreamName.DEADLETTER) == before:
            return [one for one in done if one is not None]
    raise StreamError(
        "dead letters were replayed while the streams were saved", "run it again when that is over"
    )


async def _removed(client: Client, stream: str) -> int:
    """How many messages have left a stream so far."""
    answer = _decode(await _request(client, f"$JS.API.STREAM.INFO.{stream}", b""))
    return int(answer.state.get("last_seq", 0)) - int(answer.state.get("messages", 0))


def saved_streams(directory: Path) -> Sequence[Path]:
    """Return the directories of the streams in a backup."""
    return sorted(file.parent for file in directory.glob("*/backup.json"))


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


async def _next(subscription: Any, stream: str) -> Msg | None:
    try:
        message: Msg = await subscription.next_msg(timeout=ANSWER_SECONDS)
    except (nats.errors.Error, TimeoutError) as error:
        raise StreamError(f"{stream}: the server stopped sending") from error
    if message.data:
        return message
    status = (message.headers or {}).get("Status", _END_OF_FILE)
    if status != _END_OF_FILE:
        described = (message.headers or {}).get("Description", status)
        raise StreamError(f"{stream}: {described}")
    return None


async def _ask(client: Client, subject: str, body: msgspec.Struct) -> _Answer:
    return _decode(await _request(client, subject, msgspec.json.encode(body)))


async def _upload(client: Client, subject: str, chunk: bytes) -> bytes:
    """Send a part of a stream, which in a cluster may be for a server that is not known yet."""
    for _ in range(UPLOAD_ATTEMPTS):
        try:
            return bytes((await client.request(subject, chunk, timeout=ANSWER_SECONDS)).data)
        except nats.errors.NoRespondersError:
            await asyncio.sleep(UPLOAD_PAUSE_SECONDS)
        except (TimeoutError, nats.errors.Error):
            break
    raise StreamError("the server stopped accepting the stream")


async def _request(client: Client, subject: str, body: bytes) -> bytes:
    try:
        return bytes((await client.request(subject, body, timeout=ANSWER_SECONDS)).data)
    except (TimeoutError, nats.errors.Error) as error:
        raise StreamError(
            "JetStream does not answer", "start NATS, or set NATS_URL as in operator.env"
        ) from error


def _decode(answer: bytes) -> _Answer:
    return msgspec.json.decode(answer or b"{}", type=_Answer)
