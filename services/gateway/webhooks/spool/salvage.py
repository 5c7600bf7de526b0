"""Reads everything that a spool file contains, damaged or not, for `hogsend spool read`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from hogsend.contract.json_text import NOT_JSON
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool.format import Damage, contents_of
from services.gateway.webhooks.spool.names import salt_of
from services.gateway.webhooks.spool.sqlite_spool import SQLiteSpool

_SQLITE = b"SQLite format 3\0"

_decode = msgspec.msgpack.Decoder(QueuedWebhook).decode


class Salvaged(msgspec.Struct, frozen=True, omit_defaults=True, tag="webhook", tag_field="found"):
    """An undamaged webhook."""

    id: str
    body: str
    headers: dict[str, str]
    offset: int | None = None
    published: bool = False
    """Whether it was published to JetStream before the file was set aside."""


class Fragment(msgspec.Struct, frozen=True, tag="damage", tag_field="found"):
    """Damaged bytes. `text` shows what is readable of them, which may include a webhook's body."""

    offset: int
    length: int
    text: str


def salvage(path: Path) -> Iterator[Salvaged | Fragment]:
    """Yield everything in a spool file, in the order in which the file contains it.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    if data.startswith(_SQLITE):
        for content in SQLiteSpool(path).contents():
            yield _salvaged(content, None, published=False)
        return
    for piece in contents_of(data, salt_of(path)):
        if isinstance(piece, Damage):
            yield _fragment(piece.content, piece.offset)
        else:
            yield _salvaged(piece.content, piece.offset, published=not piece.pending)


def _salvaged(content: bytes, offset: int | None, *, published: bool) -> Salvaged | Fragment:
    try:
        webhook = _decode(content)
    except NOT_JSON:
        return _fragment(content, offset or 0)
    body = webhook.body.decode("utf-8", "replace")
    return Salvaged(webhook.id, body, webhook.headers, offset, published)


def _fragment(content: bytes, offset: int) -> Fragment:
    return Fragment(offset, len(content), content.decode("utf-8", "replace"))
